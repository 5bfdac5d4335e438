//! What a template can pipe values through, beside Tera's own filters, and its tests. Pure.

mod data;
mod instances;
mod slots;
mod text;

use tera::Tera;

/// Adds every filter and test to `tera`.
pub(crate) fn register(tera: &mut Tera) {
    tera.register_filter("by_tag", instances::by_tag);
    tera.register_filter("by_meta", instances::by_meta);
    tera.register_filter("by_key", instances::by_key);
    tera.register_filter("addr", instances::addr);
    tera.register_filter("hostport", instances::hostport);
    tera.register_filter("slots", slots::slots);
    tera.register_filter("has_all", data::has_all);
    tera.register_filter("has_any", data::has_any);
    tera.register_filter("min", data::min);
    tera.register_filter("max", data::max);
    tera.register_filter("merge", data::merge);
    tera.register_filter("set_key", data::set_key);
    tera.register_filter("split_map", data::split_map);
    tera.register_filter("bool", data::bool);
    tera.register_filter("from_json", data::from_json);
    tera.register_filter("from_yaml", data::from_yaml);
    tera.register_filter("from_toml", data::from_toml);
    tera.register_filter("to_yaml", data::to_yaml);
    tera.register_filter("to_toml", data::to_toml);
    tera.register_filter("dump", data::dump);
    tera.register_filter("must_be", data::must_be);
    tera.register_filter("nginx_quote", text::nginx_quote);
    tera.register_filter("haproxy_quote", text::haproxy_quote);
    tera.register_filter("ident", text::ident);
    tera.register_filter("sha256", text::sha256);
    tera.register_filter("json_encode", tera_contrib::json::json_encode);
    tera.register_filter("b64_encode", tera_contrib::base64::b64_encode);
    tera.register_filter("b64_decode", tera_contrib::base64::b64_decode);
    tera.register_filter("urlencode", tera_contrib::urlencode::urlencode);
    tera.register_filter("regex_replace", tera_contrib::regex::RegexReplace::default());
    tera.register_test("matching", tera_contrib::regex::Matching::default());
}

/// The filters that a template may use and what they take, Tera's own included.
pub(crate) const FILTERS: &[(&str, &[&str])] = &[
    ("by_tag", &[]),
    ("by_meta", &["keys", "default"]),
    ("by_key", &[]),
    ("addr", &["net", "family"]),
    ("hostport", &[]),
    ("slots", &["n"]),
    ("has_all", &["of"]),
    ("has_any", &["of"]),
    ("min", &[]),
    ("max", &[]),
    ("merge", &["with", "deep"]),
    ("set_key", &["k", "v"]),
    ("split_map", &["pair", "kv"]),
    ("bool", &[]),
    ("from_json", &[]),
    ("from_yaml", &[]),
    ("from_toml", &[]),
    ("to_yaml", &[]),
    ("to_toml", &[]),
    ("dump", &["prefix"]),
    ("must_be", &["type", "min", "max", "one_of"]),
    ("nginx_quote", &[]),
    ("haproxy_quote", &[]),
    ("ident", &[]),
    ("sha256", &[]),
    ("json_encode", &["pretty"]),
    ("b64_encode", &["url_safe", "padded"]),
    ("b64_decode", &["url_safe"]),
    ("urlencode", &[]),
    ("regex_replace", &["pattern", "rep"]),
    ("default", &["value", "boolean"]),
    ("safe", &[]),
    ("escape", &[]),
    ("escape_html", &[]),
    ("escape_xml", &[]),
    ("newlines_to_br", &[]),
    ("wordcount", &[]),
    ("pluralize", &["singular", "plural"]),
    ("upper", &[]),
    ("lower", &[]),
    ("trim", &["pat"]),
    ("trim_start", &["pat"]),
    ("trim_end", &["pat"]),
    ("replace", &["from", "to"]),
    ("capitalize", &[]),
    ("title", &[]),
    ("truncate", &["length", "end"]),
    ("indent", &["width", "indentation", "first", "blank"]),
    ("str", &[]),
    ("int", &["base"]),
    ("float", &[]),
    ("length", &[]),
    ("reverse", &[]),
    ("split", &["pat"]),
    ("abs", &[]),
    ("round", &["method", "precision"]),
    ("first", &[]),
    ("last", &[]),
    ("nth", &["n"]),
    ("join", &["sep"]),
    ("sort", &["attribute"]),
    ("unique", &[]),
    ("get", &["key", "default"]),
    ("values", &[]),
    ("keys", &[]),
    ("pairs", &[]),
    ("group_by", &["attribute"]),
];

/// The tests that a template may use and what they take, Tera's own included.
pub(crate) const TESTS: &[(&str, &[&str])] = &[
    ("matching", &["pat"]),
    ("string", &[]),
    ("number", &[]),
    ("map", &[]),
    ("bool", &[]),
    ("array", &[]),
    ("integer", &[]),
    ("float", &[]),
    ("none", &[]),
    ("iterable", &[]),
    ("defined", &[]),
    ("undefined", &[]),
    ("odd", &[]),
    ("even", &[]),
    ("divisible_by", &["divisor"]),
    ("starting_with", &["pat"]),
    ("ending_with", &["pat"]),
    ("containing", &["pat"]),
];

#[cfg(test)]
mod tests;
