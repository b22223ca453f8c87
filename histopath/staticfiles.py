"""Static files with a content hash in their names, so that browsers can cache them for ever."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class Storage(CompressedManifestStaticFilesStorage):
    """WhiteNoise's storage, which also rewrites the imports between JavaScript modules to the hashed names."""

    support_js_module_import_aggregation = True
