"""Voices that are kept: who they belong to, what is said in them, and their audio."""
