//! How many values a JSON text can hold, found without reading it: parsed, each takes far more memory than its text.

/// How many values JSON may hold: parsed, each takes at least 32 bytes, however short its text. An object counts as so many: it takes
/// hundreds of bytes, whatever is in it.
pub const MAX_JSON_VALUES: usize = 80_000;
const VALUES_OF_OBJECT: usize = 4;

/// Whether it holds more than are read. An upper bound: one behind each opening bracket and each comma, those in texts included.
pub fn has_too_many_values(json: &[u8]) -> bool {
    let weight = |byte: &u8| match byte {
        b',' | b'[' => 1,
        b'{' => VALUES_OF_OBJECT,
        _ => 0,
    };
    json.iter().map(weight).sum::<usize>() > MAX_JSON_VALUES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_in_great_number_are_too_many() {
        let many = format!("[{}1]", "1,".repeat(MAX_JSON_VALUES));
        assert!(has_too_many_values(many.as_bytes()));
        let objects = format!("[{}1]", "{},".repeat(MAX_JSON_VALUES / 4));
        assert!(has_too_many_values(objects.as_bytes()));
        let fewer = format!("[{}1]", "1,".repeat(MAX_JSON_VALUES - 10));
        assert!(!has_too_many_values(fewer.as_bytes()));
    }
}
