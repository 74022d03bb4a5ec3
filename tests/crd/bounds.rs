//! Each bound of the definitions, held against `policy check`: what the API server refuses is refused here too, and what is just within is
//! fine.

use bonafide::api::compile::{NoKeys, compile};

use crate::crd_support::{cases, full};

/// What `policy check` refuses although the definition takes it: what has a key's form alone, and references to what is not there.
const NOT_SUPPORTED: [&str; 3] = [".publicKey.pem: ", ".publicKey.secretRef: ", ".publicKey.configMapRef: "];

#[test]
fn what_the_definitions_refuse_is_refused_before() {
    let supported = |error: &String| !NOT_SUPPORTED.iter().any(|known| error.contains(known));
    let without_index = |field: &str| field.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    let mut broken = 0;
    for case in cases() {
        let compiled = compile(&case.object, &NoKeys);
        if case.taken {
            let errors: Vec<String> =
                compiled.errors.iter().map(ToString::to_string).filter(supported).collect();
            assert_eq!(errors, Vec::<String>::new(), "{}", case.bound);
            continue;
        }
        broken += 1;
        let told = compiled.errors.iter().find(|error| without_index(&error.field).starts_with(&case.field));
        let told = told.unwrap_or_else(|| panic!("{}: {:?}", case.bound, compiled.errors));
        if let Some(most) = case.most {
            assert!(told.message.contains(&format!("at most {most} are accepted")), "{told}");
        }
    }
    assert!(broken > 100, "{broken}");
    assert!(compile(&full(), &NoKeys).errors.iter().map(ToString::to_string).all(|error| !supported(&error)));
}
