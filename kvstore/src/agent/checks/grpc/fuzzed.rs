//! What answers a probe of gRPC: no bytes panic, and one answer alone is well.

use super::{framed, judge, state};

/// First inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    let messages: [&[u8]; 5] =
        [&[8, 1], &[8, 2], &[], &[0x12, 1, b'x', 8, 1], &[0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0]];
    messages.map(|message| framed(message).to_vec()).into()
}

/// One input.
pub fn check(data: &[u8]) {
    let framed = data.split_at_checked(5).filter(|(head, message)| {
        head[0] == 0 && u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize == message.len()
    });
    let serves = framed.is_some_and(|(_, message)| state(message) == Some(1));
    match judge(data) {
        Ok(()) => assert!(serves),
        Err(error) => assert!(!serves && error.to_string().len() < 200),
    }
}
