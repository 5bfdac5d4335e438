"""Does with the registry what users of py-consul do: client.py ADDRESS STEP...

Prints a line for each step that went as it should; ends at the first that did not, with a trace.
"""

import base64
import json
import sys
import threading
import time

import consul


def same(what, got, want):
    if got != want:
        raise AssertionError(f"{what} is {got!r}, not {want!r}")


def kv(c):
    same("a missing key", c.kv.get("py/none")[1], None)
    same("put", c.kv.put("py/a", b"1\x00\xff", flags=0xE0F69A2BAA414DE0), True)
    index, entry = c.kv.get("py/a")
    same("entry", (entry["Value"], entry["Flags"]), (b"1\x00\xff", 0xE0F69A2BAA414DE0))
    same("index", int(index), entry["ModifyIndex"])
    same("create only, of what is there", c.kv.put("py/a", "2", cas=0), False)
    same("a swap in time", c.kv.put("py/a", "2", cas=entry["ModifyIndex"]), True)
    same("a swap too late", c.kv.put("py/a", "3", cas=entry["ModifyIndex"]), False)
    c.kv.put("py/b/c d&%é", "")
    same("an empty value", c.kv.get("py/b/c d&%é")[1]["Value"], None)
    same("keys", c.kv.get("py/", keys=True, separator="/")[1], ["py/a", "py/b/"])
    same("entries", [e["Key"] for e in c.kv.get("py/", recurse=True)[1]], ["py/a", "py/b/c d&%é"])
    same("delete too late", c.kv.delete("py/a", cas=entry["ModifyIndex"]), False)
    same("delete all", c.kv.delete("py/", recurse=True), True)
    same("entries after", c.kv.get("py/", recurse=True)[1], None)


def register(c, service_id):
    done = c.agent.service.register(
        "py-web",
        service_id=service_id,
        address="192.0.2.8",
        port=8080,
        tags=["v1"],
        meta={"team": "y"},
        weights={"Passing": 3, "Warning": 1},
        tagged_addresses={"wan": {"address": "198.51.100.8", "port": 80}},
        enable_tag_override=True,
        check=consul.Check.ttl("30s"),
    )
    same("registered", done, True)


def agent(c):
    same("our datacenter", c.agent.self()["Config"]["Datacenter"], "dc1")
    register(c, "py-1")
    service = c.agent.services()["py-1"]
    same("service", (service["Port"], service["Meta"], service["EnableTagOverride"]), (8080, {"team": "y"}, True))
    same("definition", c.agent.service_definition("py-1")["Weights"], {"Passing": 3, "Warning": 1})
    ttl = c.agent.check
    for ask, status in ((ttl.ttl_pass, "passing"), (ttl.ttl_warn, "warning"), (ttl.ttl_fail, "critical")):
        same(status, ask("service:py-1", notes="so it is"), True)
        check = c.agent.checks()["service:py-1"]
        same("check", (check["Status"], check["Output"]), (status, "so it is"))
    same("own check", c.agent.check.register("py-node", check=consul.Check.ttl("10s"), check_id="py-node"), True)
    same("own check gone", c.agent.check.deregister("py-node"), True)
    same("maintenance", c.agent.service.maintenance("py-1", "true", "new disk"), True)
    assert "_service_maintenance:py-1" in c.agent.checks()
    same("no maintenance", c.agent.service.maintenance("py-1", "false"), True)
    same("registered anew", c.agent.service.register("py-web", service_id="py-1", replace_existing_checks=True), True)
    same("checks", [k for k in c.agent.checks() if "py-1" in k], [])
    same("deregistered", c.agent.service.deregister("py-1"), True)
    assert c.status.leader() and c.status.peers()


def catalog(c):
    register(c, "py-2")
    c.agent.check.ttl_pass("service:py-2")
    same("datacenters", c.catalog.datacenters(), ["dc1"])
    same("tags", c.catalog.services()[1]["py-web"], ["v1"])
    same("rows", [r["ServiceID"] for r in c.catalog.service("py-web", tag="v1")[1]], ["py-2"])
    entries = c.health.service("py-web", passing=True)[1]
    same("wan address", entries[0]["Service"]["TaggedAddresses"]["wan"]["Port"], 80)
    same("checks", c.health.checks("py-web")[1][0]["Status"], "passing")
    service = {"Service": "py-printer", "ID": "p", "Port": 631}
    check = {"Name": "up", "CheckID": "up", "Status": "critical", "ServiceID": "p"}
    done = c.catalog.register("py-node", "192.0.2.9", service=service, check=check)
    same("registered", done, True)
    assert "py-node" in [node["Node"] for node in c.catalog.nodes()[1]]
    same("nodes with such metadata", c.catalog.nodes(node_meta={"kind": "py"})[1], [])
    same("on the node", c.catalog.node("py-node")[1]["Services"]["p"]["Port"], 631)
    assert "up" in [check["CheckID"] for check in c.health.state("critical")[1]]
    same("of the node", c.health.node("py-node")[1][0]["CheckID"], "up")
    same("deregistered", c.catalog.deregister("py-node"), True)
    same("no node", c.catalog.node("py-node")[1], None)
    c.agent.service.deregister("py-2")


def watch(c):
    register(c, "py-3")
    c.agent.check.ttl_pass("service:py-3")
    index, _ = c.health.service("py-web", passing=True)
    threading.Timer(0.1, c.agent.check.ttl_fail, ["service:py-3"]).start()
    start = time.monotonic()
    changed, entries = c.health.service("py-web", passing=True, index=index, wait="60s")
    same("passing instances", entries, [])
    assert int(changed) > int(index) and time.monotonic() - start < 10, (index, changed)
    c.agent.service.deregister("py-3")


def event(c):
    fired = c.event.fire("py-deploy", "now")
    _, events = c.event.list("py-deploy")
    same("event", events[-1]["ID"], fired["ID"])


def session(c):
    mine = c.session.create("py", ttl=10, behavior="delete", lock_delay=1)
    info = c.session.info(mine)[1]
    same("session", (info["Name"], info["TTL"], info["Behavior"], info["LockDelay"]), ("py", "10s", "delete", 10**9))
    same("renewed", c.session.renew(mine)["ID"], mine)
    assert mine in [s["ID"] for s in c.session.list()[1]]
    assert mine in [s["ID"] for s in c.session.node(info["Node"])[1]]
    same("acquired", c.kv.put("py/held", "me", acquire=mine), True)
    other = c.session.create(lock_delay=0)
    same("acquired twice", c.kv.put("py/held", "you", acquire=other), False)
    entry = c.kv.get("py/held")[1]
    same("held", (entry["Session"], entry["LockIndex"], entry["Value"]), (mine, 1, b"me"))
    same("destroyed", c.session.destroy(mine), True)
    same("its key", c.kv.get("py/held")[1], None)
    c.session.destroy(other)


def lock(c):
    mine, theirs = c.session.create(lock_delay=0), c.session.create(lock_delay=0)
    same("acquired", c.kv.put("py/lock", "a", acquire=mine), True)
    index, _ = c.kv.get("py/lock")
    threading.Timer(0.1, lambda: c.kv.put("py/lock", "a", release=mine)).start()
    _, entry = c.kv.get("py/lock", index=index, wait="60s")
    assert "Session" not in entry, entry
    same("acquired next", c.kv.put("py/lock", "b", acquire=theirs), True)
    same("locked again", c.kv.get("py/lock")[1]["LockIndex"], 2)
    for session_id in (mine, theirs):
        c.session.destroy(session_id)
    c.kv.delete("py/lock")


def txn(c):
    def op(verb, key, value=""):
        return {"KV": {"Verb": verb, "Key": key, "Value": base64.b64encode(value.encode()).decode()}}

    answer = c.txn.put([op("set", "py/txn", "1"), op("get", "py/txn")])
    same("results", base64.b64decode(answer["Results"][1]["KV"]["Value"]), b"1")
    same("errors", answer["Errors"], None)
    try:
        c.txn.put([op("set", "py/txn", "2"), op("check-not-exists", "py/txn")])
    except consul.exceptions.ClientError as e:
        assert "409" in str(e) and "OpIndex" in str(e), e
    else:
        raise AssertionError("a failed check is not told")
    same("nothing changed", c.kv.get("py/txn")[1]["Value"], b"1")
    c.kv.delete("py/txn")


def filter(c):
    register(c, "py-4")
    same("met", len(c.health.service("py-web", filter_expr="Service.Meta.team == y")[1]), 1)
    same("not met", c.agent.services(filter_expr="Port != 8080 and Service == `py-web`"), {})
    c.agent.service.deregister("py-4")


def query(c):
    register(c, "py-5")
    made = c.query.create("py-web", name="py-q", ttl="5s")
    same("found", len(c.query.execute("py-q")["Nodes"]), 0)
    c.agent.check.ttl_pass("service:py-5")
    same("found", len(c.query.execute("py-q")["Nodes"]), 1)
    same("deleted", c.query.delete(made["ID"]), True)
    c.agent.service.deregister("py-5")


def denied(what, ask):
    try:
        ask()
    except consul.ACLPermissionDenied:
        return
    raise AssertionError(f"{what} is not denied")


def acl(c):
    boss = c.acl.bootstrap()["SecretID"]
    denied("a second bootstrap", c.acl.bootstrap)
    rules = {"key_prefix": {"app/": {"policy": "write"}}}
    policy = c.acl.policy.create("py-app", description="of app", rules=rules, token=boss)
    same("rules", json.loads(c.acl.policy.read(policy["ID"], token=boss)["Rules"]), rules)
    same("policies", "py-app" in [one["Name"] for one in c.acl.policy.list(token=boss)], True)
    secret = "5c1f4f3e-61a5-4f36-8f5a-6a3f0f7d9a01"
    token = c.acl.token.create(token=boss, secret_id=secret, policies_name=["py-app"], description="py")
    same("secret", token["SecretID"], secret)
    accessor = token["AccessorID"]
    same("policies", c.acl.token.read(accessor, token=boss)["Policies"], [{"ID": policy["ID"], "Name": "py-app"}])
    same("put", c.kv.put("app/a", "1", token=secret), True)
    same("key", c.kv.get("app/a", token=secret)[1]["Value"], b"1")
    denied("another key", lambda: c.kv.get("other", token=secret))
    denied("a write for nobody", lambda: c.kv.put("app/a", "2"))
    denied("a service", lambda: c.agent.service.register("py-db", token=secret))
    clone = c.acl.token.clone(accessor, token=boss, description="a clone")
    same("tokens", len(c.acl.token.list(token=boss)), 4)
    same("deleted", c.acl.token.delete(accessor, token=boss), True)
    denied("a token that was deleted", lambda: c.kv.get("app/a", token=secret))
    same("policy deleted", c.acl.policy.delete(policy["ID"], token=boss), True)
    denied("what its policy gave", lambda: c.kv.get("app/a", token=clone["SecretID"]))


def main():
    host, port = sys.argv[1].split(":")
    client = consul.Consul(host=host, port=int(port))
    for step in sys.argv[2:]:
        globals()[step](client)
        print("ok", step, flush=True)


main()
