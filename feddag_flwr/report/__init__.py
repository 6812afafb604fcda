"""A run folder as one page that a person opens: ``report.html``, without network."""
