"""A taxonomy drafted from what people have: rows, sheets, outlines, JSON, SKOS, Label Studio, arrays of
HiClass.

Each kind of source gives `Concept`s; one module writes them as the YAML of a person. Imports `rows`,
`taxonomy`, `checks`, `grouping`, `validation`, `text`, `system`, `errors`.
"""
