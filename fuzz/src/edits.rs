//! Bytes as changes of a document: what is genuine but for a few places comes further than what is made up.

/// The document with these changes. Any bytes are changes, and the same ones are the same changes.
pub fn apply(document: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut result = document.to_vec();
    let mut changes = changes.iter().copied();
    while let (Some(what), Some(high), Some(low)) = (changes.next(), changes.next(), changes.next()) {
        let at = usize::from(u16::from_be_bytes([high, low])) * result.len() / (1 << 16);
        match what % 6 {
            0 => {
                if let Some(byte) = result.get_mut(at) {
                    *byte ^= 1 << (what >> 5);
                }
            }
            1 => {
                if let (Some(byte), Some(new)) = (result.get_mut(at), changes.next()) {
                    *byte = new;
                }
            }
            2 => {
                let end = (at + usize::from(what) / 6 + 1).min(result.len());
                result.drain(at..end);
            }
            3 => {
                let end = (at + usize::from(what)).min(result.len());
                let copy = result[at..end].to_vec();
                result.splice(at..at, copy);
            }
            4 => {
                let new: Vec<u8> = changes.by_ref().take(usize::from(what) / 6 + 1).collect();
                result.splice(at..at, new);
            }
            _ => result.truncate(at),
        }
    }
    result
}
