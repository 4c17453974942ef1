"""Provide processors for SGLANG_EXTERNAL_MM_PROCESSOR_PACKAGE: SGLang imports and registers each module."""
