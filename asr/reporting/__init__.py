"""Figures of systems → what people read: reports, pages, comparisons. No torch."""
