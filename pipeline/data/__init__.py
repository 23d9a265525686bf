"""The data: where its files lie, which are items, what is wrong with them, how they are read.

`layout` lists the items of a folder with their splits, `spans` picks dated batches, `duplicates`
finds photos that are there twice, `validation` opens an item and says what is wrong with it,
`health` decides whether the whole is fit to train on, `download` fetches the real data set,
`synthetic` paints one. `preprocessing` is the one way from encoded bytes to pixels. May import:
`pipeline.core`, `pipeline.settings`.
"""
