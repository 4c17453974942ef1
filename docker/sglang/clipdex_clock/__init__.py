"""A package for SGLANG_EXTERNAL_MM_PROCESSOR_PACKAGE: SGLang imports each module in it and registers its processors."""
