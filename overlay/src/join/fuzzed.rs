//! What a stranger says to a member, and a stranger in place of a member answers: nobody without the secret gets an answer
//! or is believed. And what somebody says who has the secret is read without a panic, and not more of it than may be. The
//! first byte says which.

use super::*;

fn ring() -> Keyring {
    Keyring::new(Secret::new(2, [7; 32]))
}

fn known() -> Known {
    Known { keyring: ring(), registries: vec!["http://10.0.0.1:8500".into()] }
}

const CHALLENGE: Challenge = Challenge([9; CHALLENGE_BYTES]);

/// First inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    let (question, _) = question(&ring()).expect("the system has randomness");
    let other = Keyring::new(Secret::new(2, [8; 32]));
    let elsewhere = answer(&Known { keyring: other.clone(), ..known() }, &super::question(&other).expect("likewise").0);
    let many = serde_json::to_vec(&Answer { registries: vec!["http://10.0.0.1:8500".into(); 40] }).expect("plain data");
    vec![
        // The epoch is right, and nothing else.
        [&[0][..], &question[..EPOCH_BYTES], &[0; QUESTION_BYTES - EPOCH_BYTES]].concat(),
        [&[1][..], &elsewhere.expect("an answer to itself")].concat(),
        [&[2][..], b"{\"registries\":[\"http://10.0.0.1:8500\"]}"].concat(),
        [&[2][..], &many].concat(),
        [&[3][..], &CHALLENGE.0].concat(),
    ]
}

/// One input.
pub fn check(data: &[u8]) {
    let Some((kind, said)) = data.split_first() else { return };
    match kind % 4 {
        0 => assert!(answer(&known(), said).is_none(), "who has no secret gets no answer"),
        1 => assert!(read(&ring(), &CHALLENGE, said).is_none(), "nor is believed"),
        2 => {
            let sealed = seal(ring().current(), &CHALLENGE.0, said).expect("the system has randomness");
            let Some(registries) = read(&ring(), &CHALLENGE, &sealed) else { return };
            let told: Answer = serde_json::from_slice(said).expect("what was read");
            assert!(registries.len() <= MAX_REGISTRIES && told.registries.starts_with(&registries));
        }
        _ => {
            let sealed = seal(ring().current(), b"question", said).expect("the system has randomness");
            let question = [&ring().current().epoch().to_be_bytes()[..], &sealed].concat();
            assert_eq!(answer(&known(), &question).is_some(), said.len() == CHALLENGE_BYTES);
        }
    }
}
