//! What each function of consul-template is in ours.

use super::{
    expression::{Expression, quoted, throw},
    kind::Kind,
};

/// The call of `name`; also says what is to be looked at.
pub(super) fn call(name: &str, args: &[Expression], remarks: &mut Vec<String>) -> Expression {
    let known = registry(name, args, remarks)
        .or_else(|| host(name, args))
        .or_else(|| logic(name, args))
        .or_else(|| text(name, args))
        .or_else(|| data(name, args));
    known.unwrap_or_else(|| {
        remarks.push(format!("not converted: {name}{}", advice(name)));
        Expression::new(throw(name), Kind::Unknown)
    })
}

/// What to do instead.
fn advice(name: &str) -> &'static str {
    match name {
        "secret" | "secrets" | "pkiCert" | "with_secret" => ", which is Vault's; read it from a file with file()",
        "connect" | "caRoots" | "caLeaf" => ", which is of Consul's mesh",
        "plugin" => ", which runs a program; write its output to a file and read it with file()",
        "writeToFile" => ", which writes beside the template's own file; use for_each in the configuration",
        "md5sum" | "hmacSHA256Hex" | "sha1" => "; there is sha256",
        _ if name.starts_with("scratch") => ", a store; use {% set %} and {% set_global %}",
        _ if name.starts_with("sprig_") => ", of a library that is not here",
        _ if name.starts_with("nomad") => ", which is Nomad's",
        _ => "",
    }
}

fn filter(value: &Expression, filter: impl AsRef<str>, kind: Kind) -> Expression {
    // Several filters in a row need no brackets.
    Expression { atom: true, ..Expression::new(format!("{} | {}", value.part(), filter.as_ref()), kind) }.piped()
}

impl Expression {
    /// A filter binds weaker than what may follow it, but for another filter.
    fn piped(self) -> Self {
        Self { text: format!("({})", self.text), ..self }
    }
}

fn literal(args: &[Expression], at: usize) -> Option<&str> {
    args.get(at)?.literal.as_deref()
}

/// `NAME?..@DC~NEAR|FILTER`
struct Query<'a> {
    name: &'a str,
    dc: Option<&'a str>,
    near: Option<&'a str>,
    states: Option<&'a str>,
    other: bool,
}

impl<'a> Query<'a> {
    fn of(text: &'a str) -> Self {
        let (text, states) = text.split_once('|').map_or((text, None), |(text, states)| (text, Some(states)));
        let (text, near) = text.split_once('~').map_or((text, None), |(text, near)| (text, Some(near)));
        let (text, dc) = text.split_once('@').map_or((text, None), |(text, dc)| (text, Some(dc)));
        let (name, other) = text.split_once('?').map_or((text, false), |(name, _)| (name, true));
        Self { name, dc, near, states, other }
    }

    /// The arguments that say where; also tells what has no counterpart.
    fn place(&self, remarks: &mut Vec<String>) -> String {
        if self.other {
            remarks.push("namespaces, partitions and peers are left out".into());
        }
        let dc = self.dc.map(|dc| format!(", dc={}", quoted(dc))).unwrap_or_default();
        let near = self.near.map(|near| match near {
            "_agent" => {
                remarks.push("near=_agent is left out; name the node".into());
                String::new()
            }
            near => format!(", near={}", quoted(near)),
        });
        dc + &near.unwrap_or_default()
    }
}

fn states(words: &str) -> String {
    let words: Vec<_> = words.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    match words[..] {
        [] | ["passing"] => String::new(),
        _ if words.contains(&"any") => ", status=\"any\"".into(),
        [one] => format!(", status={}", quoted(one)),
        _ => format!(", status=[{}]", words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(", ")),
    }
}

/// `f(a, b)` of arguments of which the first may be missing.
fn with_arguments(function: &str, arguments: &str, kind: Kind) -> Expression {
    Expression::new(format!("{function}({})", arguments.trim_start_matches(", ")), kind)
}

fn registry(name: &str, args: &[Expression], remarks: &mut Vec<String>) -> Option<Expression> {
    Some(match (name, args) {
        ("service", [query, more @ ..]) => {
            let more: Vec<_> = more.iter().filter_map(|a| a.literal.as_deref()).collect();
            let Some(text) = &query.literal else {
                // What is made at run time is nearly always a name alone.
                if query.kind != Kind::Text || !query.text.ends_with("name") {
                    remarks.push(format!("service {} is taken as a name without tag and datacenter", query.text));
                }
                let arguments = format!("name={}{}", query.text, states(&more.join(",")));
                return Some(with_arguments("service", &arguments, Kind::Instances));
            };
            let asked = Query::of(text);
            let (tag, service) =
                asked.name.rsplit_once('.').map_or((None, asked.name), |(tag, name)| (Some(tag), name));
            let tag = tag.map(|tag| format!(", tag={}", quoted(tag))).unwrap_or_default();
            let states = states(&asked.states.map_or_else(|| more.join(","), str::to_owned));
            let place = asked.place(remarks);
            with_arguments("service", &format!("name={}{tag}{states}{place}", quoted(service)), Kind::Instances)
        }
        ("services", _) => {
            let place = literal(args, 0).map(|text| Query::of(text).place(remarks)).unwrap_or_default();
            with_arguments("services", &format!("all=true{place}"), Kind::Services)
        }
        ("nodes", _) => {
            let place = literal(args, 0).map(|text| Query::of(text).place(remarks)).unwrap_or_default();
            with_arguments("nodes", &place, Kind::Nodes)
        }
        ("node", [query]) => {
            let text = query.literal.as_deref();
            let place = text.map(|text| Query::of(text).place(remarks)).unwrap_or_default();
            let node = text.map_or_else(|| query.text.clone(), |text| quoted(Query::of(text).name));
            with_arguments("node", &format!("name={node}{place}"), Kind::NodeWithServices)
        }
        ("datacenters", _) => Expression::new("datacenters()", Kind::Unknown),
        ("key", [path]) => keys("key", "path", path, "", Kind::Text, remarks),
        ("keyExists", [path]) => keys("key_exists", "path", path, "", Kind::Unknown, remarks),
        ("keyOrDefault", [path, default]) => {
            keys("key", "path", path, &format!(", default={}", default.text), Kind::Text, remarks)
        }
        ("ls", [path]) => keys("kv_list", "prefix", path, "", Kind::Pairs, remarks),
        ("safeLs", [path]) => keys("kv_list", "prefix", path, ", min=1", Kind::Pairs, remarks),
        ("tree", [path]) => keys("kv_list", "prefix", path, ", recurse=true", Kind::Pairs, remarks),
        ("safeTree", [path]) => keys("kv_list", "prefix", path, ", recurse=true, min=1", Kind::Pairs, remarks),
        ("explode", [pairs]) => match pairs.text.strip_prefix("kv_list(").and_then(|rest| rest.strip_suffix(')')) {
            Some(arguments) => {
                let arguments = arguments.replace(", recurse=true", "").replace(", min=1", "");
                with_arguments("kv_tree", &arguments, Kind::Map)
            }
            None => return None,
        },
        ("byTag", [list]) if list.kind == Kind::Services => filter(list, "by_tag", Kind::ServicesBy),
        ("byTag", [list]) => filter(list, "by_tag", Kind::InstancesBy),
        ("byKey", [list]) => filter(list, "by_key", Kind::PairsBy),
        ("byPort", [list]) => filter(list, "group_by(attribute=\"port\")", Kind::InstancesBy),
        ("byMeta", [keys, list]) => {
            let text = keys.literal.as_deref()?;
            if text.contains("|int") {
                remarks.push("byMeta does not fill numbers up with zeros here".into());
            }
            let keys = text.split(',').map(|key| quoted(key.split('|').next().unwrap_or_default().trim()));
            let keys = keys.collect::<Vec<_>>().join(", ");
            filter(list, format!("by_meta(keys=[{keys}])"), Kind::InstancesBy)
        }
        _ => return None,
    })
}

fn keys(
    function: &str,
    argument: &str,
    path: &Expression,
    more: &str,
    kind: Kind,
    remarks: &mut Vec<String>,
) -> Expression {
    let (name, place) = match path.literal.as_deref().map(Query::of) {
        Some(query) => {
            // A separator, so that `app` is the folder and not every key that begins so.
            let slash =
                if argument == "prefix" && !query.name.is_empty() && !query.name.ends_with('/') { "/" } else { "" };
            (quoted(&format!("{}{slash}", query.name)), query.place(remarks))
        }
        None => (path.text.clone(), String::new()),
    };
    Expression::new(format!("{function}({argument}={name}{more}{place})"), kind)
}

fn host(name: &str, args: &[Expression]) -> Option<Expression> {
    Some(match (name, args) {
        ("env", [name]) => Expression::new(format!("get_env(name={}, default=\"\")", name.text), Kind::Text),
        ("mustEnv", [name]) => Expression::new(format!("get_env(name={})", name.text), Kind::Text),
        ("envOrDefault", [name, default]) => {
            Expression::new(format!("get_env(name={}, default={})", name.text, default.text), Kind::Text)
        }
        ("file", [path]) => Expression::new(format!("file(path={})", path.text), Kind::Text),
        ("sockaddr", [query]) if query.literal.as_deref() == Some("GetPrivateIP") => {
            Expression::new("host_ip()", Kind::Text)
        }
        ("timestamp", []) => Expression::new("now()", Kind::Text),
        ("timestamp", [format]) if format.literal.as_deref() == Some("unix") => {
            Expression::new("now(unix=true)", Kind::Text)
        }
        _ => return None,
    })
}

fn infix(args: &[Expression], operator: &str) -> Expression {
    Expression::compound(args.iter().map(Expression::part).collect::<Vec<_>>().join(&format!(" {operator} ")))
}

fn logic(name: &str, args: &[Expression]) -> Option<Expression> {
    Some(match (name, args) {
        ("eq", [value, several @ .., last]) if !several.is_empty() => {
            let all = several.iter().chain([last]).map(|a| a.text.clone()).collect::<Vec<_>>().join(", ");
            Expression::compound(format!("{} in [{all}]", value.part()))
        }
        ("eq", [_, _]) => infix(args, "=="),
        ("ne", [_, _]) => infix(args, "!="),
        ("lt", [_, _]) => infix(args, "<"),
        ("le", [_, _]) => infix(args, "<="),
        ("gt", [_, _]) => infix(args, ">"),
        ("ge", [_, _]) => infix(args, ">="),
        ("and", [_, ..]) => infix(args, "and"),
        ("or", [_, ..]) => infix(args, "or"),
        ("not", [value]) => Expression::compound(format!("not {}", value.part())),
        // The piped value is the last.
        ("add", [b, a]) => infix(&[a.clone(), b.clone()], "+"),
        ("subtract", [b, a]) => infix(&[a.clone(), b.clone()], "-"),
        ("multiply", [b, a]) => infix(&[a.clone(), b.clone()], "*"),
        ("divide", [b, a]) => infix(&[a.clone(), b.clone()], "//"),
        ("modulo", [b, a]) => infix(&[a.clone(), b.clone()], "%"),
        ("maximum", [b, a]) => Expression::new(format!("([{}, {}] | max)", a.text, b.text), Kind::Unknown),
        ("minimum", [b, a]) => Expression::new(format!("([{}, {}] | min)", a.text, b.text), Kind::Unknown),
        ("loop", [end]) => Expression::new(format!("range(end={})", end.text), Kind::Unknown),
        ("loop", [start, end]) => {
            Expression::new(format!("range(start={}, end={})", start.text, end.text), Kind::Unknown)
        }
        ("contains", [wanted, list]) | ("in", [list, wanted]) => infix(&[wanted.clone(), list.clone()], "in"),
        ("containsAll", [of, list]) => filter(list, format!("has_all(of={})", of.text), Kind::Unknown),
        ("containsAny", [of, list]) => filter(list, format!("has_any(of={})", of.text), Kind::Unknown),
        ("containsNone", [of, list]) => Expression::compound(format!(
            "not {}",
            filter(list, format!("has_any(of={})", of.text), Kind::Unknown).text
        )),
        ("regexMatch", [pattern, value]) => {
            Expression::compound(format!("{} is matching(pat={})", value.part(), pattern.text))
        }
        ("len", [value]) => filter(value, "length", Kind::Text),
        ("index", [list, at]) => {
            let base = if list.text.contains(['(', '|', ' ']) { format!("({})", list.text) } else { list.text.clone() };
            Expression::new(format!("{base}[{}]", at.text), list.kind.item())
        }
        ("index", [list, at, rest @ ..]) => {
            let first = logic("index", &[list.clone(), at.clone()])?;
            return logic("index", &[std::slice::from_ref(&first), rest].concat());
        }
        _ => return None,
    })
}

fn text(name: &str, args: &[Expression]) -> Option<Expression> {
    let plain = |value: &Expression, with: &str| filter(value, with, Kind::Text);
    Some(match (name, args) {
        ("join", [sep, list]) => plain(list, &format!("join(sep={})", sep.text)),
        ("split", [sep, value]) => filter(value, format!("split(pat={})", sep.text), Kind::Unknown),
        ("splitToMap", [pair, kv, value]) => {
            filter(value, format!("split_map(pair={}, kv={})", pair.text, kv.text), Kind::Map)
        }
        ("toLower", [value]) => plain(value, "lower"),
        ("toUpper", [value]) => plain(value, "upper"),
        ("toTitle", [value]) => plain(value, "title"),
        ("trimSpace", [value]) => plain(value, "trim"),
        ("trimPrefix", [cut, value]) => plain(value, &format!("trim_start(pat={})", cut.text)),
        ("trimSuffix", [cut, value]) => plain(value, &format!("trim_end(pat={})", cut.text)),
        ("trim", [cut, value]) => plain(value, &format!("trim(pat={})", cut.text)),
        ("replaceAll", [from, to, value]) => plain(value, &format!("replace(from={}, to={})", from.text, to.text)),
        ("regexReplaceAll", [pattern, rep, value]) => {
            plain(value, &format!("regex_replace(pattern={}, rep={})", pattern.text, rep.text))
        }
        ("indent", [width, value]) => plain(value, &format!("indent(width={}, first=true)", width.text)),
        ("base64Decode", [value]) => plain(value, "b64_decode"),
        ("base64Encode", [value]) => plain(value, "b64_encode"),
        ("base64URLEncode", [value]) => plain(value, "b64_encode(url_safe=true)"),
        ("base64URLDecode", [value]) => plain(value, "b64_decode(url_safe=true)"),
        ("sha256Hex", [value]) => plain(value, "sha256"),
        ("print", [value]) => value.clone(),
        ("printf", [format, values @ ..]) => return printf(format.literal.as_deref()?, values),
        _ => return None,
    })
}

/// `"%s-%d" a b` as `a ~ "-" ~ b`.
fn printf(format: &str, values: &[Expression]) -> Option<Expression> {
    let mut parts = Vec::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        if at > 0 {
            parts.push(quoted(&rest[..at]));
        }
        match rest[at + 1..].chars().next()? {
            's' | 'd' | 'v' => parts.push(values.next()?.part()),
            '%' => parts.push(quoted("%")),
            _ => return None, // widths and the like
        }
        rest = &rest[at + 2..];
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(quoted(rest));
    }
    values.next().is_none().then(|| Expression { kind: Kind::Text, ..Expression::compound(parts.join(" ~ ")) })
}

fn data(name: &str, args: &[Expression]) -> Option<Expression> {
    Some(match (name, args) {
        ("parseBool", [value]) => filter(value, "bool", Kind::Unknown),
        ("parseInt" | "parseUint", [value]) => filter(value, "int", Kind::Unknown),
        ("parseFloat", [value]) => filter(value, "float", Kind::Unknown),
        ("parseJSON", [value]) => filter(value, "from_json", Kind::Unknown),
        ("parseYAML", [value]) => filter(value, "from_yaml", Kind::Unknown),
        ("toJSON" | "toUnescapedJSON", [value]) => filter(value, "json_encode", Kind::Text),
        ("toJSONPretty" | "toUnescapedJSONPretty", [value]) => filter(value, "json_encode(pretty=true)", Kind::Text),
        ("toYAML", [value]) => filter(value, "to_yaml", Kind::Text),
        ("toTOML", [value]) => filter(value, "to_toml", Kind::Text),
        ("mergeMap", [with, map]) => filter(with, format!("merge(with={}, deep=true)", map.text), Kind::Map),
        ("mergeMapWithOverride", [with, map]) => {
            filter(map, format!("merge(with={}, deep=true)", with.text), Kind::Map)
        }
        _ => return None,
    })
}
