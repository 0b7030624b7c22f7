from web_site import other_site, site  # noqa: F401
