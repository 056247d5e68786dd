"""Print how many customers a second scikit-learn scores of a JSON array of so many.

usage: sklearn_array.py CUSTOMERS
"""

import json
import pickle
import sys
import time
from pathlib import Path
from statistics import median

import customers

with (Path(__file__).parent.parent / "model_C=1.0.bin").open("rb") as file:
    dv, model = pickle.load(file)

size = int(sys.argv[1])
body = json.dumps(customers.many(size)).encode()
times = []
for _ in range(5):
    started = time.perf_counter()
    model.predict_proba(dv.transform(json.loads(body)))[:, 1].tolist()
    times.append(time.perf_counter() - started)
print(size / median(times))
