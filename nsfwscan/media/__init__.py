"""Pictures: finding them on disk and turning them into pixels, safely."""
