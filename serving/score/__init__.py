"""Tables beyond one service: their files, wherever they are, scored on all cores or on a Dask cluster."""
