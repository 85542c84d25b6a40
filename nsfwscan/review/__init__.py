"""A local page where a person goes through flagged and borderline pictures and decides.

In: the cache, the rulings, the quarantines. Out: rulings, moves, and a summary. `collect` finds the
pictures, `lookup` finds where they are now, `desk` decides and undoes, `gallery` shows, `app`
answers the browser, `presence` ends it all when the page is closed.
"""
