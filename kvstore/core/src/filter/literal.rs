//! What values say: Go's escapes in quoted texts, Go's words for numbers and truth.

/// The text that the inside of a double-quoted literal stands for; else where it goes wrong, and why.
pub(super) fn unescape(quoted: &str) -> Result<String, (usize, &'static str)> {
    const NOT_TEXT: &str = "the bytes that \\x and \\0 escapes stand for are not UTF-8";
    let mut bytes = Vec::with_capacity(quoted.len());
    let mut rest = quoted.char_indices();
    while let Some((at, char)) = rest.next() {
        match char {
            '\\' => escape(&mut rest, &mut bytes).map_err(|why| (at, why))?,
            '\n' => return Err((at, "a line ends inside double quotes; use \\n, or backquotes")),
            _ => push(&mut bytes, char),
        }
    }
    String::from_utf8(bytes).map_err(|_| (0, NOT_TEXT))
}

/// What follows a backslash.
fn escape(rest: &mut std::str::CharIndices<'_>, bytes: &mut Vec<u8>) -> Result<(), &'static str> {
    const UNKNOWN: &str =
        "unknown escape; there are \\a \\b \\f \\n \\r \\t \\v \\\\ \\\" \\ooo \\xhh \\uhhhh \\Uhhhhhhhh";
    let (_, char) = rest.next().ok_or(UNKNOWN)?;
    match char {
        'a' => bytes.push(7),
        'b' => bytes.push(8),
        'f' => bytes.push(12),
        'n' => bytes.push(b'\n'),
        'r' => bytes.push(b'\r'),
        't' => bytes.push(b'\t'),
        'v' => bytes.push(11),
        '\\' | '"' => push(bytes, char),
        'x' => bytes.push(byte(digits(rest, 2, 16, 0)?)?),
        '0'..='7' => bytes.push(byte(digits(rest, 2, 8, char.to_digit(8).unwrap_or_default())?)?),
        'u' => push(bytes, character(digits(rest, 4, 16, 0)?)?),
        'U' => push(bytes, character(digits(rest, 8, 16, 0)?)?),
        _ => return Err(UNKNOWN),
    }
    Ok(())
}

fn digits(rest: &mut std::str::CharIndices<'_>, count: u32, radix: u32, first: u32) -> Result<u32, &'static str> {
    (0..count).try_fold(first, |number, _| {
        let digit = rest.next().and_then(|(_, char)| char.to_digit(radix)).ok_or("an escape with too few digits")?;
        // Eight hexadecimal digits are the most.
        Ok(number.wrapping_mul(radix) + digit)
    })
}

fn byte(number: u32) -> Result<u8, &'static str> {
    u8::try_from(number).map_err(|_| "an octal escape above \\377")
}

fn character(number: u32) -> Result<char, &'static str> {
    char::from_u32(number).ok_or("an escape that is no character")
}

fn push(bytes: &mut Vec<u8>, char: char) {
    bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
}

/// A whole number in Go's spelling: with sign, `0x`, `0o`, `0b` or a `0` for octal, and `_` between digits.
pub(super) fn int(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, number) = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((radix, lower.strip_prefix(prefix)?)))
        .unwrap_or(if lower.len() > 1 && lower.starts_with('0') { (8, &lower[1..]) } else { (10, &lower) });
    // One may stand right after a prefix, too.
    if number.ends_with('_') || number.contains("__") || radix == 10 && number.starts_with('_') {
        return None;
    }
    let number = number.replace('_', "");
    // `from_str_radix` would take another sign.
    if !number.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from_str_radix(&number, radix).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// A truth value in Go's spelling.
pub(super) fn bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
