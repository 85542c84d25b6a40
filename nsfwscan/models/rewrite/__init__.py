"""Faster graphs for models that others published: what is recognised, and what is built from it."""

DYNAMIC_VIT = "dynamic-vit/1"
"""The way of rewriting, as manifests name it. A new number makes every package be rewritten."""
