"""The documentation site: ``python -m docs.website``, or ``make docs``.

`__main__` gathers the pages and calls the site generator; `reference` and `api` write the pages
that are generated from the code, `notebooks` turns a notebook into a page, and `links` checks what
came out. ``assets/`` holds what the pages load beside the theme.
"""
