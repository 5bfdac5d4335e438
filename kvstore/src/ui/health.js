// What checks amount to. Pure.

const ORDER = ["passing", "warning", "critical", "maintenance"];

export const worst = (statuses) =>
  statuses.reduce((a, b) => (ORDER.indexOf(b) > ORDER.indexOf(a) ? b : a), "passing");

const isMaintenance = (check) => check.CheckID === "_node_maintenance" || check.CheckID.startsWith("_service_maintenance");

export const statusOf = (checks) => worst(checks.map((check) => (isMaintenance(check) ? "maintenance" : check.Status)));

// Services by name with their tags (`/v1/catalog/services`) and all checks (`/v1/health/state/any`), as a sorted list.
// Checks of a node alone concern all its instances; which those are is told by the checks of instances only, so they are
// counted where an instance has checks.
export function summary(services, checks) {
  const nodes = new Map();
  const instances = new Map();
  for (const check of checks) {
    const of = check.ServiceID ? instances : nodes;
    const key = check.ServiceID ? JSON.stringify([check.Node, check.ServiceID]) : check.Node;
    if (!of.has(key)) of.set(key, []);
    of.get(key).push(check);
  }
  const counts = new Map();
  for (const own of instances.values()) {
    const { Node, ServiceName } = own[0];
    const count = counts.get(ServiceName) ?? {};
    const found = statusOf([...own, ...(nodes.get(Node) ?? [])]);
    count[found] = (count[found] ?? 0) + 1;
    counts.set(ServiceName, count);
  }
  return Object.entries(services)
    .map(([name, tags]) => {
      const count = counts.get(name) ?? {};
      return { name, tags, count, status: worst(Object.keys(count)) };
    })
    .sort((a, b) => a.name.localeCompare(b.name));
}

export function matches(text, ...fields) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const all = fields.join(" ").toLowerCase();
  return words.every((word) => all.includes(word));
}
