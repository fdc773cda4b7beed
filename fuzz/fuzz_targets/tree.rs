//! Mutates DER as a tree, so that the lengths around a change are valid. Every second mutation is
//! libFuzzer's own, on the bytes.

use libfuzzer_sys::fuzzer_mutate;

enum Node {
    Branch(u8, Vec<Node>),
    Leaf(u8, Vec<u8>),
}

/// For [`libfuzzer_sys::fuzz_mutator`].
pub(crate) fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random(u64::from(seed));
    let tree = data.get(..size).and_then(|der| forest(der, 0));
    let Some(mut tree) = tree.filter(|tree| !tree.is_empty() && random.below(2) == 0) else {
        return fuzzer_mutate(data, size, max_size);
    };
    for _ in 0..=random.below(2) {
        change(&mut tree, &mut random);
    }
    let out = encode(&tree);
    match data.get_mut(..out.len()) {
        Some(buffer) if out.len() <= max_size => {
            buffer.copy_from_slice(&out);
            out.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
}

/// SplitMix64: deterministic for a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides.max(1) as u64) as usize
    }
}

/// The elements of `bytes`, without a remainder.
fn forest(mut bytes: &[u8], depth: usize) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    while !bytes.is_empty() {
        let (tag, rest) = bytes.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x83 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = octets.iter().fold(0, |n, o| n << 8 | usize::from(*o));
                (length, rest)
            }
            _ => return None,
        };
        let (contents, after) = rest.split_at_checked(length)?;
        // An OCTET STRING may hold DER, as in extensions.
        let inside = (tag & 0x20 != 0 || (*tag == 0x04 && !contents.is_empty())) && depth < 16;
        nodes.push(
            match inside.then(|| forest(contents, depth + 1)).flatten() {
                Some(inner) => Node::Branch(*tag, inner),
                None => Node::Leaf(*tag, contents.to_vec()),
            },
        );
        bytes = after;
    }
    Some(nodes)
}

fn encode(nodes: &[Node]) -> Vec<u8> {
    let mut out = Vec::new();
    for node in nodes {
        let (tag, contents) = match node {
            Node::Branch(tag, inner) => (tag, encode(inner)),
            Node::Leaf(tag, contents) => (tag, contents.clone()),
        };
        out.push(*tag);
        let octets = contents.len().to_be_bytes();
        match contents.len() {
            0..=0x7f => out.push(octets[7]),
            0x80..=0xff => out.extend([0x81, octets[7]]),
            0x100..=0xffff => out.extend([0x82, octets[6], octets[7]]),
            _ => out.extend([0x83, octets[5], octets[6], octets[7]]),
        }
        out.extend(contents);
    }
    out
}

fn change(nodes: &mut Vec<Node>, random: &mut Random) {
    if nodes.is_empty() {
        return;
    }
    let at = random.below(nodes.len());
    // Usually descend.
    if let Some(Node::Branch(_, inner)) = nodes.get_mut(at)
        && !inner.is_empty()
        && random.below(5) != 0
    {
        return change(inner, random);
    }
    let other = random.below(nodes.len());
    match random.below(6) {
        0 => drop(nodes.remove(at)),
        1 => nodes.swap(at, other),
        2 => {
            let copy = forest(&encode(&nodes[at..=at]), 0).unwrap_or_default();
            nodes.splice(other..other, copy);
        }
        3 => {
            const TAGS: &[u8] = &[
                0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0c, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1e, 0x30,
                0x31, 0x80, 0x81, 0x82, 0x86, 0x87, 0x88, 0xa0, 0xa1, 0xa3, 0xa4,
            ];
            let (Node::Branch(tag, _) | Node::Leaf(tag, _)) = &mut nodes[at];
            *tag = TAGS[random.below(TAGS.len())];
        }
        _ => {
            let Node::Leaf(_, contents) = &mut nodes[at] else {
                return;
            };
            let length = contents.len();
            contents.resize(length + 64, 0);
            let length = fuzzer_mutate(contents, length, length + 64);
            contents.truncate(length);
        }
    }
}
