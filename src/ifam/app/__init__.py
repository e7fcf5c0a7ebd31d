"""The local page: parts off and on, a threshold, a mask painted by hand; needs the extra ``app``."""
