"""The published Python signer, over a session as its users write it."""

import concurrent.futures
import sys

import requests
from akamai.edgegrid import EdgeGridAuth, EdgeRc

edgerc = EdgeRc("~/.edgerc")
base = "https://" + edgerc.get("default", "host") + "/edgekv/v1"
failed = False


def check(sentence, expected, actual):
    global failed
    if expected == actual:
        print(f"ok - {sentence}")
    else:
        print(f"not ok - {sentence}: expected {expected!r}, got {actual!r}")
        failed = True


def session():
    made = requests.Session()
    made.auth = EdgeGridAuth.from_edgerc(edgerc, "default")
    return made


one = session()
answer = one.put(base + "/initialize")
check("the Python signer is let in", 201, answer.status_code)
answer = one.post(
    base + "/networks/production/namespaces",
    json={"namespace": "python", "retentionInSeconds": 86400},
)
check("a signed POST body is accepted", 200, answer.status_code)
answer = one.post(base + "/tokens", data="a" * 131073)
check("a body over 131072 bytes verifies by its first part", 422, answer.status_code)
item = base + "/networks/production/namespaces/python/groups/g/items/k"
largest = "x" * 262144
answer = one.put(item, data=largest, headers={"content-type": "text/plain"})
check("the largest value is stored", 200, answer.status_code)
answer = one.put(item, data=largest + "x", headers={"content-type": "text/plain"})
check("one byte more is 413", (413, "EKV_9000"), (answer.status_code, answer.json()["errorCode"]))
check("and the connection goes on", largest, one.get(item).text)
answer = one.get(item, headers={"content-type": "application/json"}, data='""')
check("a body of GET is ignored", 200, answer.status_code)
check("the connection stays in step", 200, one.get(base + "/initialize").status_code)

wrong = requests.Session()
wrong.auth = EdgeGridAuth(
    client_token=edgerc.get("default", "client_token"),
    client_secret="b3RoZXI=",
    access_token=edgerc.get("default", "access_token"),
)
answer = wrong.get(base + "/initialize")
check(
    "a wrong secret is refused by the gateway",
    (401, "The signature does not match"),
    (answer.status_code, answer.json()["detail"]),
)


def write(number):
    own = session()
    statuses = set()
    for turn in range(10):
        path = base + f"/networks/production/namespaces/python/groups/many/items/{number}-{turn}"
        statuses.add(own.put(path, data="x", headers={"content-type": "text/plain"}).status_code)
    return statuses


with concurrent.futures.ThreadPoolExecutor(8) as pool:
    statuses = set().union(*pool.map(write, range(8)))
check("eight sessions write at once", {200}, statuses)
keys = one.get(base + "/networks/production/namespaces/python/groups/many").json()
check("all of it is listed", 80, len(keys))
sys.exit(1 if failed else 0)
