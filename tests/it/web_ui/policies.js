// Answers of a Consul whose ACLs are on, in the page itself: the requests for tokens and policies never leave it. What is
// asked for is noted in `window.asked`, as METHOD PATH.

const builtin = { ID: "00000000-0000-0000-0000-000000000001", Name: "global-management", Description: "Everything", Rules: "" };
const deploy = { ID: "1b0a7cba-0000-4000-8000-000000000000", Name: "deploy", Description: "", Rules: 'key "a" { policy = "write" }' };
const link = ({ ID, Name }) => ({ ID, Name });
const policies = [builtin, deploy];
const tokens = [
  { AccessorID: "6a1253d2-0000-4000-8000-000000000000", Description: "Bootstrap Token", Policies: [link(builtin)], CreateTime: "2024-01-01T00:00:00.5Z" },
  { AccessorID: "00000000-0000-0000-0000-000000000002", Description: "Anonymous Token", Policies: null },
];

function remove(all, key, id) {
  all.splice(all.findIndex((one) => one[key] === id), 1);
  return true;
}

function answer(method, path, body) {
  const [, , , kind, id] = path.split("/");
  switch (`${method} ${kind}`) {
    case "GET tokens": return tokens;
    case "GET policies": return policies.map(({ Rules, ...shown }) => shown);
    case "GET token": return tokens[0];
    case "GET policy": return policies.find((one) => one.ID === id);
    case "DELETE token": return remove(tokens, "AccessorID", id);
    case "DELETE policy": return remove(policies, "ID", id);
    case "PUT policy": {
      const known = policies.find((one) => one.ID === id);
      if (known) return Object.assign(known, body);
      policies.push({ ID: `made-${policies.length}`, ...body });
      return policies.at(-1);
    }
    case "PUT token":
      body.Policies = body.Policies.map((wanted) => link(policies.find((one) => one.ID === wanted.ID)));
      tokens.push({ AccessorID: "made", ...body });
      return { ...tokens.at(-1), SecretID: "the-new-secret" };
  }
}

window.asked = [];
window.denied = false;
const real = window.fetch;
window.fetch = (where, options = {}) => {
  if (!where.startsWith("/v1/acl/")) return real(where, options);
  window.asked.push(`${options.method} ${where}`);
  if (window.denied) return Promise.resolve(new Response("Permission denied", { status: 403 }));
  const found = answer(options.method, where, options.body && JSON.parse(options.body));
  return Promise.resolve(new Response(JSON.stringify(found)));
};
