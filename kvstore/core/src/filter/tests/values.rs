//! How fields, texts, numbers and patterns are written.

use super::*;

#[test]
fn values_are_names_numbers_and_two_kinds_of_quotes() {
    check_cases(
        "service",
        &[
            ("Address == `10.0.0.9`", true),
            (r#"Meta.path == "C:\\x""#, true),
            (r"Meta.path == `C:\x`", true),
            (r#"Service == "\x77\u0065\U00000062""#, true),
            (r#"Service == "\167eb""#, true),
            (r#"Service != "\a\b\f\n\r\t\v\\\"""#, true),
            // A path of names is the text of it.
            ("Service != web.api", true),
            ("Service == \"web\" and Service == `web`", true),
        ],
    );
    check_cases(
        "c1",
        &[
            ("Output == \"line 1\\nline 2\"", true),
            ("Output == `line 1\nline 2`", true),
            // Carriage returns of a raw text do not count.
            ("Output == `line 1\r\nline 2`", true),
            ("Output == \"line 1\\r\\nline 2\"", false),
        ],
    );
    for bad in
        [r#""\z""#, r#""\x7""#, r#""\400""#, r#""\ud800""#, r#""\U00110000""#, r#""\xff""#, r#""\'""#, "\"a\nb\""]
    {
        let problem = taken("service", &format!("Service == {bad}")).unwrap_err().problem;
        assert!(matches!(problem, Problem::Text(_)), "{bad}: {problem}");
    }
}

#[test]
fn numbers_and_truth_are_given_in_any_of_gos_spellings() {
    check_cases(
        "service",
        &[
            ("Port == 81", true),
            ("Port == \"81\"", true),
            ("Port == `81`", true),
            ("Port != 81", false),
            ("Port != -1", true),
            ("Port == \"0x51\"", true),
            ("Port == \"0X5_1\"", true),
            ("Port == \"8_1\"", true),
            ("Port == \"0_121\"", true),
            ("Port == \"0b1010001\"", true),
            ("Port == \"0o121\"", true),
            ("Port == \"0121\"", true),
            ("Port == \"+81\"", true),
            ("Port == \"-0\"", false),
            ("Port == \"-9223372036854775808\"", false),
            ("Weights.Passing == 10 and Weights.Warning == 1", true),
            ("EnableTagOverride == true", true),
            ("EnableTagOverride == \"T\"", true),
            ("EnableTagOverride == 1", true),
            ("EnableTagOverride != false", true),
            ("EnableTagOverride == False", false),
        ],
    );
    for bad in [
        "x",
        "8.1",
        "\"\"",
        "\"_81\"",
        "\"81_\"",
        "\"0x\"",
        "\"0x5__1\"",
        "\"+-1\"",
        "\"9223372036854775808\"",
        "\"08\"",
    ] {
        let problem = taken("service", &format!("Port == {bad}")).unwrap_err().problem;
        assert!(matches!(problem, Problem::Value { .. }), "{bad}: {problem}");
    }
    assert!(taken("service", "EnableTagOverride == yes").is_err());
}

#[test]
fn selectors_are_dotted_or_in_brackets() {
    check_cases(
        "node",
        &[
            ("Meta.rack == r1", true),
            ("Meta[\"rack\"] == r1", true),
            ("Meta[ `rack`\t] == r1", true),
            ("Meta[\"os/arch\"] == linux", true),
            ("lin in Meta[\"os/arch\"]", true),
            ("Meta[\"\"] == x", false),
        ],
    );
}

#[test]
fn regular_expressions_are_re2s() {
    check_cases(
        "c1",
        &[
            (r"Output matches `(?i)LINE \d`", true),
            (r"Output matches `\Qline 1\E\s`", true),
            (r"Output matches `^line 1$`", false),
            (r"Output matches `(?m)^line 1$`", true),
            (r"Output matches `1.line`", false),
            (r"Output matches `(?s)1.line 2$`", true),
            (r"Output matches `[[:alpha:]]{4} [\d&]`", true),
            (r"Output matches `[]12[]$`", true),
            (r"Output matches `l{1,2}i`", true),
            (r"Output matches `l{`", false),
            (r"Output matches `{x}|\x{6c}ine|\pL`", true),
            (r"Output matches `\061`", true),
            (r"Output matches `a&&b|[l&&x]ine`", true),
            (r"Output matches `\<line`", false),
            (r"Output matches `[--n]ine`", true),
            (r"Output matches `[\[-m]ine`", true),
            (r"Output matches `[+--]ine`", false),
            (r"Output matches `[^\D\S]`", false),
            (r"Output matches `\w\W\w`", true),
            ("Output matches \"\"", true),
        ],
    );
    let ascii = crate::pattern::compile(r"^[\w\s\d]$").unwrap();
    assert!(
        ascii.is_match("a") && !ascii.is_match("\u{e4}") && !ascii.is_match("\u{a0}") && !ascii.is_match("\u{663}")
    );
    for bad in ["`(`", "`[a`", r"`\8`", "`(?<=a)b`", "`[z-a]`", "`(?P<n>`", r"`\`", r"`(\pL{9}){999}`"] {
        let problem = taken("service", &format!("Service matches {bad}")).unwrap_err().problem;
        assert!(matches!(&problem, Problem::Pattern { why, .. } if !why.contains('\n')), "{bad}: {problem}");
    }
}
