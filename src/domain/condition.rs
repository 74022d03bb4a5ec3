//! Conditions in CEL over what is claimed and proved: compiled once with the policy, evaluated within a budget.
//!
//! Nobody interrupts an evaluation, and there is no clock here: what one may cost is counted instead (`steps`), and nothing in
//! the language that is accepted makes values grow. Why, and what is left out for it: docs/decisions/0009.

pub mod asked;
mod check;
mod steps;
mod values;

use std::{fmt, sync::Arc};

use cel::{Context, IdedExpr, Value, parser::PrattParser};
pub use steps::{Budget, ReviewBudget};
pub use values::Given;

use super::compiled_pattern::CompiledPattern;

/// The longest expression, in bytes.
pub const MAX_EXPRESSION: usize = 1024;
/// How deep an expression may be nested, and how many operators may follow one another.
const MAX_DEPTH: usize = 32;

/// A condition that compiled.
#[derive(Clone)]
pub struct Condition {
    expression: String,
    message: Option<String>,
    compiled: Arc<Compiled>,
}

struct Compiled {
    root: IdedExpr,
    /// The patterns of `matches`, each compiled once.
    patterns: Arc<Vec<CompiledPattern>>,
    /// The patterns as they were written.
    written: Vec<String>,
    mentions: Mentions,
}

/// What of the values an expression looks at. What it does not is not made.
#[derive(Debug, Clone, Copy, Default)]
struct Mentions {
    /// The whole predicate.
    predicate: bool,
    /// The parameters in it.
    parameters: bool,
    /// The platform of the manifest that is judged.
    platform: bool,
}

/// Why an expression is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.told())]
pub struct ConditionError {
    /// Line and column, from one; `None`: it is about the whole.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
}

impl ConditionError {
    fn told(&self) -> String {
        match self.at {
            None => self.message.clone(),
            Some((1, column)) => format!("at column {column}: {}", self.message),
            Some((line, column)) => format!("at line {line}, column {column}: {}", self.message),
        }
    }

    fn whole(message: impl Into<String>) -> Self {
        Self { at: None, message: message.into() }
    }
}

impl Condition {
    /// Compiles a condition.
    ///
    /// # Errors
    /// Where it is too long or too deep, is no CEL, names a variable, field or function that is not there, or can be no truth.
    pub fn new(expression: &str, message: Option<String>) -> Result<Self, ConditionError> {
        if expression.trim().is_empty() {
            return Err(ConditionError::whole("is empty"));
        }
        if expression.len() > MAX_EXPRESSION {
            return Err(ConditionError::whole(format!(
                "is {} bytes long; at most {MAX_EXPRESSION} are accepted",
                expression.len()
            )));
        }
        let mut root = parse(expression)?;
        let checked = check::check(&root, expression)?;
        steps::count_in(&mut root, &checked.patterns)?;
        let patterns = Arc::new(checked.patterns.into_iter().map(|(_, pattern)| pattern).collect());
        let compiled =
            Arc::new(Compiled { root, patterns, written: checked.written, mentions: checked.mentions });
        Ok(Self { expression: expression.to_owned(), message, compiled })
    }

    /// The expression as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// What is said where it does not hold.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// A pattern of `matches` that is not anchored at both ends, and so matches more than it may look like.
    pub fn unanchored(&self) -> Option<&str> {
        let mut patterns = self.compiled.written.iter().map(String::as_str);
        patterns.find(|pattern| !(pattern.starts_with('^') && pattern.ends_with('$')))
    }

    /// How many bytes its patterns take once they are compiled.
    pub fn bytes(&self) -> usize {
        self.compiled.patterns.iter().fold(0, |sum, pattern| pattern.bytes().saturating_add(sum))
    }

    /// Whether the answer may differ from one manifest of an image to the other.
    pub fn is_of_platform(&self) -> bool {
        self.compiled.mentions.platform
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// Where that cannot be said: a field is not there, types do not fit, the budget is spent.
    pub fn holds(&self, given: &Given<'_>, budget: &Budget) -> Result<bool, String> {
        let mut context = Context::with_env(Arc::clone(&check::ENVIRONMENT));
        let bytes = values::put(&mut context, given, self.compiled.mentions)?;
        steps::provide(&mut context, budget, bytes, &self.compiled.patterns)?;
        let result = Value::resolve(&self.compiled.root, &context);
        // An error may have been absorbed by what stood beside it; that nothing was left may not.
        if budget.is_spent() {
            return Err(steps::SPENT.to_owned());
        }
        match result {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it is {}, not true or false", values::kind(&other))),
            Err(error) => Err(values::told(&error)),
        }
    }
}

/// The expression as a tree. The crate's other parser looks ahead through all brackets, recursing, before it counts how deep it is.
fn parse(expression: &str) -> Result<IdedExpr, ConditionError> {
    let depth = u16::try_from(MAX_DEPTH).unwrap_or(u16::MAX);
    let parser = PrattParser::new().error_recovery_limit(0).max_recursion_depth(depth);
    parser.parse(expression).map_err(|errors| {
        let Some(first) = errors.errors.iter().max_by_key(|error| error.pos.0 > 0) else {
            return ConditionError::whole("is no CEL");
        };
        if errors.errors.iter().any(|error| error.msg.contains("recursion limit")) {
            return check::too_deep();
        }
        let at = usize::try_from(first.pos.0).ok().zip(usize::try_from(first.pos.1).ok());
        let message = first.msg.lines().next().unwrap_or_default();
        let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
        ConditionError {
            at: at.filter(|(line, column)| *line > 0 && *column > 0),
            message: format!("is no CEL: {message}"),
        }
    })
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition")
            .field("expression", &self.expression)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

/// All else follows from the expression.
impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.expression == other.expression && self.message == other.message
    }
}

impl Eq for Condition {}

#[cfg(test)]
mod tests;
