"""Static files under names that change with their content, so that browsers keep them for ever."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class Storage(CompressedManifestStaticFilesStorage):
    """As WhiteNoise has it, and the imports between our scripts follow the new names too."""

    support_js_module_import_aggregation = True
