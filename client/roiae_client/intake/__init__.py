"""Frames and boxes as hospitals and annotation tools keep them, made into a site folder."""
