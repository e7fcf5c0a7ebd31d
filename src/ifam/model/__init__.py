"""The two-stage model. Needs torch and timm only."""
