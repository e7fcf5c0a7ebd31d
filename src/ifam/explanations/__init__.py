"""Explanations of single images, and their pictures."""
