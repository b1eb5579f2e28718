"""The Slater-Koster file format (slakoformat v1.0): records, reader, writer, lint.

It stands below both `slako` (which makes tables) and `engine` (which uses them), so that a published set, somebody
else's set and a trial pass through the same records.
"""
