//! What is said about texts that are no filters.

use super::taken;

#[test]
fn mistakes_are_told_with_their_place_and_what_is_possible() {
    for (of, text, wanted) in [
        ("service", "bad filter here", "1:5 (4): expected OPERATOR, found \"filter here\""),
        ("service", " ", "1:2 (1): expected a selector, a value, \"not\" or \"(\", found the end"),
        ("service", "Port", "1:5 (4): expected OPERATOR, found the end"),
        ("service", "Port ==", "1:8 (7): expected a value, found the end"),
        ("service", "Port > 80", "1:6 (5): expected OPERATOR, found \"> 80\""),
        ("service", "Port == 3x", "1:10 (9): expected a blank, \")\" or the end after a number, found \"x\""),
        ("service", "Port == 01", "1:10 (9): expected a blank, \")\" or the end after a number, found \"1\""),
        ("service", "Port == 1.", "1:10 (9): expected a blank, \")\" or the end after a number, found \".\""),
        ("service", "Port == -", "1:10 (9): expected a digit, found the end"),
        ("service", "32 == 32", "1:4 (3): expected \"in\" or \"not in\", found \"== 32\""),
        ("service", "\"a\" contains Tags", "1:5 (4): expected \"in\" or \"not in\", found \"contains Tags\""),
        ("service", "x in 32", "1:6 (5): expected a selector, found \"32\""),
        ("service", "x in \"Tags\"", "1:6 (5): expected a selector, found \"\\\"Tags\\\"\""),
        ("service", "x in", "1:5 (4): expected a blank, found the end"),
        ("service", "x not is Tags", "1:7 (6): expected in, contains or matches, found \"is Tags\""),
        ("service", "Tags is full", "1:9 (8): expected \"empty\" or \"not empty\", found \"full\""),
        ("service", "Tags is emptyx", "1:9 (8): expected \"empty\" or \"not empty\", found \"emptyx\""),
        ("service", "Port == 1 and", "1:14 (13): expected a blank, found the end"),
        ("service", "Port == 1 and ", "1:15 (14): expected a selector, a value, \"not\" or \"(\", found the end"),
        (
            "service",
            "Port == 1 xor Port == 2",
            "1:11 (10): expected \"and\", \"or\" or the end, found \"xor Port == 2\"",
        ),
        ("service", "Port == 1\n  orr x", "2:3 (12): expected \"and\", \"or\" or the end, found \"orr x\""),
        ("service", "(Port == 1", "1:11 (10): expected \"and\", \"or\" or \")\", found the end"),
        ("service", "(Port == 1))", "1:12 (11): expected \"and\", \"or\" or the end, found \")\""),
        ("service", "()", "1:2 (1): expected a selector, a value, \"not\" or \"(\", found \")\""),
        ("service", "Service == \"web", "1:16 (15): expected a closing double quote, found the end"),
        ("service", "Service == `web", "1:16 (15): expected a closing backquote, found the end"),
        ("service", "Meta[3] == x", "1:6 (5): expected a name in quotes, found \"3] == x\""),
        ("service", "Meta[\"a\" == x", "1:10 (9): expected \"]\", found \"== x\""),
        ("service", "Meta. == x", "1:6 (5): expected a name, found \" == x\""),
        ("service", "Meta.a-b == x", "1:7 (6): expected OPERATOR, found \"-b == x\""),
        ("node", "Meta[\"\u{e4}\u{e4}\"] == \"\\y\"", "1:16 (17): unknown escape"),
        ("node", "service.id == x", "1:1 (0): Selector \"service\" is not valid; available: ID, Node, Address,"),
        ("entry", "Node.Port == 1", "1:1 (0): Selector \"Node.Port\" is not valid; available: ID, Node,"),
        (
            "entry",
            "a == b and x in Checks.Nope",
            "1:1 (0): Selector \"a\" is not valid; available: Node, Service, Checks",
        ),
        ("node", "Meta.a.b == x", "1:1 (0): Selector \"Meta.a.b\" is not valid; nothing is below it"),
        ("node", "Node == x or id != y", "1:14 (13): Selector \"id\" is not valid"),
        (
            "service",
            "Port is empty",
            "1:6 (5): Invalid match operator \"is empty\" for selector \"Port\"; possible: ==, !=",
        ),
        ("service", "80 in Port", "1:4 (3): Invalid match operator \"in\" for selector \"Port\"; possible: ==, !="),
        (
            "service",
            "Service is empty",
            "1:9 (8): Invalid match operator \"is empty\" for selector \"Service\"; possible: ==, !=, in, ",
        ),
        (
            "service",
            "Tags == v1",
            "1:6 (5): Invalid match operator \"==\" for selector \"Tags\"; possible: in, not in,",
        ),
        ("service", "Tags matches v1", "1:6 (5): Invalid match operator \"matches\" for selector \"Tags\""),
        (
            "service",
            "Weights != 1",
            "1:9 (8): Invalid match operator \"!=\" for selector \"Weights\"; it has fields of its own to select",
        ),
        (
            "entry",
            "x not in Checks",
            "1:3 (2): Invalid match operator \"not in\" for selector \"Checks\"; possible: is empty, is not empty",
        ),
        ("service", "Port == web", "1:9 (8): Failed to coerce value \"web\" for selector \"Port\": not a whole number"),
        ("service", "Service matches `a(b`", "1:17 (16): Failed to compile regular expression \"a(b\": unclosed group"),
    ] {
        let wanted = wanted.replace("OPERATOR", "an operator: ==, !=, is, in, contains, matches or not");
        let told = taken(of, text).expect_err(text).to_string();
        assert!(told.starts_with(&wanted), "{text}\n wanted: {wanted}\n got:    {told}");
    }
}
