"""A client's own data by code (setting ``dataset`` = ``package.module:load``)."""
