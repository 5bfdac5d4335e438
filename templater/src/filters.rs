//! What a template can pipe values through, beside Tera's own filters. Pure.

use tera::{Error, Kwargs, State, Tera, TeraResult, Value, value::Map};

/// Adds every filter and test to `tera`.
pub(crate) fn register(tera: &mut Tera) {
    tera.register_filter("by_tag", by_tag);
    tera.register_filter("by_key", by_key);
    tera.register_filter("from_json", from_json);
    tera.register_filter("from_yaml", from_yaml);
    tera.register_filter("nginx_quote", nginx_quote);
    tera.register_filter("haproxy_quote", haproxy_quote);
    tera.register_filter("ident", ident);
    tera.register_filter("json_encode", tera_contrib::json::json_encode);
    tera.register_filter("b64_encode", tera_contrib::base64::b64_encode);
    tera.register_filter("b64_decode", tera_contrib::base64::b64_decode);
    tera.register_filter("urlencode", tera_contrib::urlencode::urlencode);
    tera.register_filter("regex_replace", tera_contrib::regex::RegexReplace::default());
    tera.register_test("matching", tera_contrib::regex::Matching::default());
}

/// The filters that a template may use, Tera's own included: for messages.
pub(crate) const NAMES: &[&str] = &[
    "by_tag",
    "by_key",
    "from_json",
    "from_yaml",
    "json_encode",
    "b64_encode",
    "b64_decode",
    "urlencode",
    "regex_replace",
    "nginx_quote",
    "haproxy_quote",
    "ident",
    "default",
    "upper",
    "lower",
    "trim",
    "replace",
    "capitalize",
    "title",
    "truncate",
    "indent",
    "str",
    "int",
    "float",
    "length",
    "reverse",
    "split",
    "abs",
    "round",
    "first",
    "last",
    "nth",
    "join",
    "sort",
    "unique",
    "get",
    "values",
    "keys",
    "pairs",
    "group_by",
];

/// `{tag: [item, ..]}` of items that have `tags`; the tags sorted, the items in their order.
fn by_tag(items: &[Value], _: Kwargs, _: &State) -> TeraResult<Value> {
    let mut groups = std::collections::BTreeMap::<String, Vec<Value>>::new();
    for item in items {
        let tags = item.get_from_path("tags").and_then(Value::as_array);
        let tags = tags.ok_or_else(|| Error::message("by_tag: an item of the list has no `tags`"))?;
        for tag in tags {
            groups.entry(tag.to_string()).or_default().push(item.clone());
        }
    }
    Ok(groups.into())
}

/// `{top: {rest: value}}` of the keys that `kv_list(recurse=true)` gives, by the first segment of each.
fn by_key(items: &[Value], _: Kwargs, _: &State) -> TeraResult<Value> {
    let mut groups = std::collections::BTreeMap::<String, Map>::new();
    for item in items {
        let text = |name| item.get_from_path(name).and_then(Value::as_str);
        let (Some(key), Some(value)) = (text("key"), text("value")) else {
            return Err(Error::message("by_key: an item of the list has no `key` and `value`; use kv_list()"));
        };
        let (top, rest) = key.split_once('/').unwrap_or((key, ""));
        let group = groups.entry(top.to_owned()).or_default();
        group.insert(rest.to_owned().into(), value.into());
    }
    Ok(groups.into())
}

/// The empty text, which is what an unanswered key gives, is nothing.
fn from_json(text: &str, _: Kwargs, _: &State) -> TeraResult<Value> {
    if text.trim().is_empty() {
        return Ok(Value::none());
    }
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| Error::message(format!("from_json: {e}")))?;
    Value::try_from_serializable(&value)
}

fn from_yaml(text: &str, _: Kwargs, _: &State) -> TeraResult<Value> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|e| Error::message(format!("from_yaml: {e}")))?;
    Value::try_from_serializable(&value)
}

/// `text` as one nginx argument in double quotes.
fn nginx_quote(text: &str, _: Kwargs, _: &State) -> TeraResult<String> {
    if text.contains(|c: char| c.is_control() || c == '$') {
        return Err(Error::message(format!(
            "nginx_quote: {text:?} has a control character or a $, which nginx cannot quote"
        )));
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// `text` as one HAProxy argument in single quotes, which leave nothing in it with a meaning.
fn haproxy_quote(text: &str, _: Kwargs, _: &State) -> TeraResult<String> {
    if text.contains(char::is_control) {
        return Err(Error::message(format!(
            "haproxy_quote: {text:?} has a control character, which HAProxy cannot quote"
        )));
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// `text` as a name that nginx, HAProxy and most others take: anything but letters, digits, `_`, `.`, `-` becomes `_`.
fn ident(text: &str, _: Kwargs, _: &State) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.chars().map(|c| if keep(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tera::Context;

    fn check(template: &str, expected: &str) {
        let mut tera = Tera::new();
        register(&mut tera);
        tera.autoescape_on(Vec::<&str>::new());
        let got = tera.add_raw_template("t", template).and_then(|()| tera.render("t", &Context::new()));
        let got = got.unwrap_or_else(|e| e.to_string());
        assert!(got == expected || got.starts_with(&format!("error: {expected}")), "{template}\n{got}");
    }

    #[test]
    fn filters_do_what_they_say() {
        check(r#"{{ 'a "b" \\ c' | nginx_quote }}"#, r#""a \"b\" \\ c""#);
        check("{{ '$host' | nginx_quote }}", "nginx_quote: ");
        check(r#"{{ "it's #1" | haproxy_quote }}"#, r"'it'\''s #1'");
        check("{{ \"a\nb\" | haproxy_quote }}", "haproxy_quote: ");
        check("{{ 'host:web 1/\u{e4}' | ident }}", "host_web_1__");
        check("{{ ('{\"a\": [1, {\"b\": \"x\"}]}' | from_json)[\"a\"] | length }}", "2");
        check("{{ 'not json' | from_json }}", "from_json: ");
        check("{% set c = 'a: [1, 2]' | from_yaml %}{{ c.a | length }}", "2");
        check(
            "{% set g = [{'n': 1, 'tags': ['b', 'a']}, {'n': 2, 'tags': ['a']}] | by_tag %}\
             {% for tag, items in g %}{{ tag }}={% for i in items %}{{ i.n }}{% endfor %} {% endfor %}",
            "a=12 b=1 ",
        );
        check("{{ [{'n': 1}] | by_tag }}", "by_tag: ");
        check(
            "{% set g = [{'key': 'a/x', 'value': '1'}, {'key': 'a/y', 'value': '2'}] | by_key %}{{ g.a.x }}{{ g.a.y }}",
            "12",
        );
        check("{{ 'v1.2' is matching(pat='^v[0-9]') }}", "true");
        check("{{ 'v1.2' | regex_replace(pattern='[.].*', rep='') }}", "v1");
    }
}
