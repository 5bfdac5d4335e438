// The modules of the web UI that decide and show nothing, in tables of cases. A function body, run in a page of the UI:
// it resolves to the number of cases, or throws what is not as it should be.

const health = await import("/ui/health.js");
const { catalogChanges, keyChanges, sessionChanges } = await import("/ui/changes.js");

let cases = 0;
function same(found, wanted, what) {
  cases += 1;
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: ${a}, and it should be ${b}`);
}

// "web-1=critical": a check of an instance; "=critical": of the node.
const checks = (node, text) => text.split(" ").filter(Boolean).map((one) => {
  const [, id, status] = one.match(/^(.*)=(\w+)$/);
  const wish = { maintenance: `_service_maintenance:${id}`, draining: `_draining:${id}` }[status];
  return {
    Node: node, CheckID: wish ?? `check:${id}`, Name: "alive", ServiceID: id, ServiceName: id.replace(/-\d+$/, ""),
    Status: wish ? "critical" : status, Output: status === "critical" ? "on fire" : "", Notes: wish ? "new disk" : "",
  };
});
// A host with instances "web-1:v1", of the services that their ids begin with, and checks.
const host = (name, instances = "", all = "", address = "10.0.0.1") => ({
  Node: name, Address: address, Checks: checks(name, all),
  Services: instances.split(" ").filter(Boolean).map((one) => {
    const [id, version] = one.split(":");
    return { ID: id, Service: id.replace(/-\d+$/, ""), Port: 80, Tags: ["t"], Meta: version ? { version } : null };
  }),
});

for (const [given, wanted] of [
  ["", "passing"],
  ["x=passing x=warning", "warning"],
  ["x=critical x=warning", "critical"],
  ["x=critical x=draining", "draining"],
  ["x=draining x=maintenance x=critical", "maintenance"],
]) same(health.statusOf(checks("n", given)), wanted, given);

for (const [statuses, wanted] of [
  [[], "passing"],
  [["passing", "critical", "draining"], "critical"],
  // Somebody wished it, and the others do.
  [["passing", "maintenance"], "passing"],
  [["draining", "maintenance"], "maintenance"],
]) same(health.together(statuses), wanted, `${statuses}`);

const counted = (...nodes) =>
  health.summary(health.instancesOf(nodes)).map((one) => `${one.name}: ${health.counted(one.counts)}, so ${one.status}`);
// Without checks an instance passes; its node's checks are its own too.
same(counted(host("a", "web-1 web-2 db-1", "web-2=critical"), host("b", "web-3 WEB-4", "=warning")),
  ["db: 1 passing, so passing", "web: 1 passing, 2 warning, 1 critical, so critical"], "counts");
same(counted(), [], "nothing");
// An instance with the id of another on another node has its own checks.
same(counted(host("a", "web-1", "web-1=critical"), host("b", "web-1")), ["web: 1 passing, 1 critical, so critical"], "ids");

const versions = (live, ...nodes) =>
  health.versions(health.instancesOf(nodes), live).map((one) => `${one.name} ${one.passing}/${one.total}${one.isLive ? " live" : ""}`);
same(versions("v2", host("a", "web-1:v10 web-2:v2 web-3:v2 web-4", "web-2=critical")), ["v2 1/2 live", "v10 1/1"], "versions");

for (const [words, fits] of [["", true], ["  WEB  v1 ", true], ["web db", false], ["<", false]]) {
  same(health.matches(words, "web", "v1"), fits, words);
}

const told = (changes) => changes.map((one) => `${one.status} ${one.about} ${one.text}${one.detail ? ` (${one.detail})` : ""}`);
for (const [before, after, wanted] of [
  [[], [], []],
  [[host("a", "web-1")], [host("a", "web-1")], []],
  [[], [host("a")], ["made a joined, 10.0.0.1"]],
  [[host("a")], [], ["gone a left"]],
  [[host("a")], [host("a", "", "", "10.0.0.2")], ["made a has the address 10.0.0.2, and had 10.0.0.1"]],
  // Names of hosts are the same in any case.
  [[host("a")], [host("A")], []],
  [[host("a")], [host("a", "web-1:v1")], ["made web web-1 on a registered at 10.0.0.1:80, version v1", "passing web is a new service"]],
  [[host("a", "web-1 web-2")], [host("a", "web-1")], ["gone web web-2 on a deregistered"]],
  [[host("a", "web-1")], [host("a")], ["gone web web-1 on a deregistered", "gone web has no instance any more"]],
  [[host("a", "web-1:v1")], [host("a", "web-1:v2")], ["made web web-1 on a has version v2, and had v1"]],
  [[host("a", "web-1 web-2", "web-1=passing")], [host("a", "web-1 web-2", "web-1=critical")],
    ["critical web web-1 on a check “alive”: passing → critical (on fire)"]],
  [[host("a", "web-1", "web-1=passing")], [host("a", "web-1", "web-1=critical")],
    ["critical web web-1 on a check “alive”: passing → critical (on fire)", "critical web is down: no instance can be used"]],
  [[host("a", "web-1", "web-1=critical")], [host("a", "web-1", "web-1=warning")],
    ["warning web web-1 on a check “alive”: critical → warning", "warning web is up again"]],
  [[host("a", "web-1 web-2")], [host("a", "web-1 web-2", "web-2=draining")], ["draining web web-2 on a draining began: new disk"]],
  [[host("a", "web-1 web-2", "web-2=maintenance")], [host("a", "web-1 web-2")], ["made web web-2 on a maintenance ended"]],
  [[host("a", "", "=passing")], [host("a", "", "=critical")], ["critical a check “alive”: passing → critical (on fire)"]],
]) same(told(catalogChanges(before, after)), wanted, JSON.stringify(wanted));

const key = (Key, ModifyIndex, Value = "", Session) => ({ Key, ModifyIndex, Value, Session });
for (const [before, after, wanted] of [
  [[key("a", 1)], [key("a", 1)], []],
  [[key("a", 1)], [key("a", 2), key("b", 2)], ["made a written", "made b made"]],
  [[key("a", 1)], [], ["gone a deleted"]],
  [[key("a", 1)], [key("a", 2, "", "s")], ["made a locked by session s"]],
  [[key("a", 1, "", "s")], [key("a", 2)], ["made a unlocked"]],
  [[], [key("release/web", 1, "v1")], ["made web version v1 is live"]],
  [[key("release/web", 1, "v1")], [key("release/web", 2, "v2"), key("release-history/web", 2)], ["made web version v2 is live"]],
  [[key("release/web", 1, "v1")], [], ["gone web no version is live any more"]],
  // Names alone, and from entries to names.
  [["a", "b"], ["b", "c"], ["made c made", "gone a deleted"]],
  [[key("a", 1)], ["a"], []],
]) same(told(keyChanges(before, after, (value) => value)), wanted, JSON.stringify(wanted));

const session = (ID, Name, TTL) => ({ ID, Name, TTL, Node: "a" });
same(told(sessionChanges([session("1", "old")], [session("2", "", "10s")])), ["made 2 session on a made, TTL 10s", "gone old session on a ended"], "sessions");

return cases;
