//! What of CEL is accepted: everything that is not is told when the policy is written, and not when the first image comes.
//!
//! `map` is left out, and so are types of one's own and optional values: a loop gives a truth or some of what it went over, so that
//! no value grows with what is gone over.

use std::sync::{Arc, LazyLock};

use super::{ConditionError, MAX_DEPTH, Mentions, values::FIELDS};
use crate::domain::compiled_pattern::CompiledPattern;
use cel::{
    Env, IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, operators as op},
};

/// The language.
pub static ENVIRONMENT: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// How many loops may be within one another.
const MAX_LOOPS: usize = 3;

/// Functions that are called as `f(x)`, all with one argument.
const FUNCTIONS: &[&str] = &["size", "string", "int", "uint", "double", "bool"];
/// Functions that are called as `x.f(y)`, and how many arguments they have.
const METHODS: &[(&str, usize)] =
    &[("size", 0), ("contains", 1), ("startsWith", 1), ("endsWith", 1), ("matches", 1)];
/// Operators whose value is true or false.
const TRUTHS: &[&str] = &[
    op::LOGICAL_AND,
    op::LOGICAL_OR,
    op::LOGICAL_NOT,
    op::EQUALS,
    op::NOT_EQUALS,
    op::LESS,
    op::LESS_EQUALS,
    op::GREATER,
    op::GREATER_EQUALS,
    op::IN,
];
/// Operators whose value is not.
const NO_TRUTHS: &[&str] = &[op::ADD, op::SUBSTRACT, op::MULTIPLY, op::DIVIDE, op::MODULO, op::NEGATE];
/// Operators whose value is whatever their operands are.
const EITHER: &[&str] = &[op::CONDITIONAL, op::INDEX, op::NOT_STRICTLY_FALSE];

/// An expression that was checked.
#[derive(Debug, Default)]
pub struct Checked {
    /// The patterns in it, by the number of the call.
    pub patterns: Vec<(u64, CompiledPattern)>,
    /// The same, as they were written.
    pub written: Vec<String>,
    /// What it looks at.
    pub mentions: Mentions,
}

/// What is said of an expression that is nested too deeply.
pub fn too_deep() -> ConditionError {
    ConditionError::whole(format!(
        "is nested too deeply: at most {MAX_DEPTH} brackets or operators within one another are accepted"
    ))
}

/// Checks an expression.
pub fn check(root: &IdedExpr, source: &str) -> Result<Checked, ConditionError> {
    let mut check = Check { source, variables: Vec::new(), loops: 0, checked: Checked::default() };
    check.walk(root, 0)?;
    if let Some(kind) = no_truth(root) {
        return Err(ConditionError::whole(format!("is {kind}, and can be neither true nor false")));
    }
    Ok(check.checked)
}

/// What an expression is that can be no truth, as far as that shows.
fn no_truth(root: &IdedExpr) -> Option<&'static str> {
    match &root.expr {
        Expr::Literal(LiteralValue::Boolean(_)) => None,
        Expr::Literal(LiteralValue::String(_)) => Some("a text"),
        Expr::Literal(_) => Some("a constant"),
        Expr::List(_) => Some("a list"),
        Expr::Map(_) => Some("a map"),
        Expr::Ident(_) => Some("a whole variable"),
        Expr::Call(call) if NO_TRUTHS.contains(&call.func_name.as_str()) => Some("a sum or the like"),
        Expr::Call(call) if call.func_name == "size" => Some("a size"),
        Expr::Call(call) if ["string", "int", "uint", "double"].contains(&call.func_name.as_str()) => {
            Some("a text or a number")
        }
        Expr::Comprehension(of) if Loop::of(of) == Some(Loop::Filter) => Some("a list"),
        _ => None,
    }
}

/// The loops that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loop {
    /// `all`, `exists`: the step is `@result && …` or `@result || …`.
    Fold,
    /// `exists_one`: the step is `… ? @result + 1 : @result`.
    One,
    /// `filter`: the step is `… ? @result + [x] : @result`.
    Filter,
}

impl Loop {
    /// What a loop is that a macro made.
    pub fn of(of: &ComprehensionExpr) -> Option<Self> {
        let is = |expr: &IdedExpr, name: &str| matches!(&expr.expr, Expr::Ident(found) if found == name);
        let Expr::Call(CallExpr { func_name, target: None, args }) = &of.loop_step.expr else { return None };
        match (func_name.as_str(), args.as_slice()) {
            (op::LOGICAL_AND | op::LOGICAL_OR, [result, _]) if is(result, &of.accu_var) => Some(Self::Fold),
            (op::CONDITIONAL, [_, step, otherwise]) if is(otherwise, &of.accu_var) => {
                let Expr::Call(step) = &step.expr else { return None };
                match step.args.as_slice() {
                    [_, IdedExpr { expr: Expr::Literal(_), .. }] => Some(Self::One),
                    [_, IdedExpr { expr: Expr::List(list), .. }] => match list.elements.as_slice() {
                        [element] if is(element, &of.iter_var) => Some(Self::Filter),
                        _ => None,
                    },
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// The field that `variable['field']` and `'field' in variable` reach: it is written out, as in `variable.field`.
fn written_field(call: &CallExpr) -> Option<(&str, &str)> {
    let (variable, field) = match (call.func_name.as_str(), call.args.as_slice()) {
        (op::INDEX, [variable, field]) | (op::IN, [field, variable]) => (&variable.expr, &field.expr),
        _ => return None,
    };
    match (variable, field) {
        (Expr::Ident(name), Expr::Literal(LiteralValue::String(field))) => Some((name, field.inner())),
        _ => None,
    }
}

struct Check<'a> {
    source: &'a str,
    /// Of the loops around, innermost last.
    variables: Vec<&'a str>,
    loops: usize,
    checked: Checked,
}

impl<'a> Check<'a> {
    /// An error about a word, where it stands first: the parser does not say where.
    fn error(&self, word: &str, message: impl Into<String>) -> ConditionError {
        let in_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_whole = |at: usize| {
            let before = self.source.get(..at).and_then(|text| text.chars().next_back());
            let after = self.source.get(at.saturating_add(word.len())..).and_then(|text| text.chars().next());
            !before.is_some_and(in_word) && !after.is_some_and(in_word)
        };
        let found = self.source.match_indices(word).map(|(at, _)| at).find(|at| is_whole(*at));
        let at = found.filter(|_| !word.is_empty()).and_then(|at| self.source.get(..at)).map(|before| {
            let line = before.matches('\n').count().saturating_add(1);
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
            (line, column)
        });
        ConditionError { at, message: message.into() }
    }

    fn all(
        &mut self,
        exprs: impl IntoIterator<Item = &'a IdedExpr>,
        depth: usize,
    ) -> Result<(), ConditionError> {
        exprs.into_iter().try_for_each(|expr| self.walk(expr, depth))
    }

    fn walk(&mut self, node: &'a IdedExpr, depth: usize) -> Result<(), ConditionError> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let deeper = depth.saturating_add(1);
        match &node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::List(list) => self.all(&list.elements, deeper),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => {
                if let Expr::Ident(name) = &select.operand.expr
                    && !self.variables.contains(&name.as_str())
                {
                    self.known_variable(name)?;
                    return self.field(name, &select.field);
                }
                self.walk(&select.operand, deeper)
            }
            Expr::Call(call) => {
                if let Some((name, field)) = written_field(call)
                    && !self.variables.contains(&name)
                {
                    self.known_variable(name)?;
                    self.mention(name, Some(field));
                    return Ok(());
                }
                self.function(node.id, call)?;
                self.all(call.target.as_deref().into_iter().chain(&call.args), deeper)
            }
            Expr::Comprehension(of) => self.comprehension(of, deeper),
            Expr::Map(_) => Err(self.error("{", "a map cannot be written here")),
            Expr::Struct(made) => Err(self
                .error(&made.type_name, format!("there is no type {} to make a value of", made.type_name))),
            Expr::Unspecified => Err(self.error("", "is no CEL")),
        }
    }

    fn variable(&mut self, name: &'a str) -> Result<(), ConditionError> {
        if self.variables.contains(&name) {
            return Ok(());
        }
        self.known_variable(name)?;
        // On its own it is all of it: an index, a loop or a comparison may reach each of its fields.
        self.mention(name, None);
        Ok(())
    }

    fn known_variable(&self, name: &str) -> Result<(), ConditionError> {
        let known: Vec<&str> = FIELDS.iter().map(|(variable, _)| *variable).collect();
        if !known.contains(&name) {
            return Err(
                self.error(name, format!("there is no variable {name}; there are {}", known.join(", ")))
            );
        }
        Ok(())
    }

    fn field(&mut self, variable: &str, field: &str) -> Result<(), ConditionError> {
        let fields = FIELDS.iter().find(|(name, _)| *name == variable).map(|(_, fields)| *fields);
        let fields = fields.unwrap_or_default();
        if !fields.contains(&field) {
            let message = format!("{variable} has no field {field}; it has {}", fields.join(", "));
            return Err(self.error(field, message));
        }
        self.mention(variable, Some(field));
        Ok(())
    }

    fn mention(&mut self, variable: &str, field: Option<&str>) {
        let mentions = &mut self.checked.mentions;
        let is = |name: &str| field.is_none_or(|field| field == name);
        match variable {
            "provenance" => {
                mentions.predicate |= is("predicate");
                mentions.parameters |= is("parameters");
            }
            "image" => mentions.platform |= is("platform"),
            _ => {}
        }
    }

    fn function(&mut self, id: u64, call: &'a CallExpr) -> Result<(), ConditionError> {
        let name = call.func_name.as_str();
        let Some(_) = &call.target else {
            let is_operator = [TRUTHS, NO_TRUTHS, EITHER].iter().any(|list| list.contains(&name));
            if is_operator || FUNCTIONS.contains(&name) && call.args.len() == 1 {
                return Ok(());
            }
            let message = if FUNCTIONS.contains(&name) {
                format!("{name} takes one argument")
            } else {
                format!("there is no function {name}; there are {}", FUNCTIONS.join(", "))
            };
            return Err(self.error(name, message));
        };
        match METHODS.iter().find(|(known, _)| *known == name) {
            Some((_, arguments)) if *arguments != call.args.len() => Err(self.error(
                name,
                format!("{name} takes {arguments} argument{}", if *arguments == 1 { "" } else { "s" }),
            )),
            Some(("matches", _)) => self.pattern(id, call),
            Some(_) => Ok(()),
            None if name == "map" => {
                Err(self.error(name, "map is not supported; use all, exists, exists_one or filter"))
            }
            None => {
                let known: Vec<&str> = METHODS.iter().map(|(known, _)| *known).collect();
                let macros = "all, exists, exists_one, filter";
                Err(self.error(
                    name,
                    format!(
                        "there is no function {name} of a value; there are {}, {macros}",
                        known.join(", ")
                    ),
                ))
            }
        }
    }

    /// A pattern is written out, so that it is compiled once and its errors are told here.
    fn pattern(&mut self, id: u64, call: &CallExpr) -> Result<(), ConditionError> {
        let Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }) = call.args.first()
        else {
            return Err(self.error("matches", "the pattern of matches must be written out"));
        };
        let compiled = CompiledPattern::new(pattern.inner()).map_err(|error| {
            self.error("matches", format!("{:?} is no regular expression: {error}", pattern.inner()))
        })?;
        self.checked.patterns.push((id, compiled));
        self.checked.written.push(pattern.inner().to_owned());
        Ok(())
    }

    fn comprehension(&mut self, of: &'a ComprehensionExpr, depth: usize) -> Result<(), ConditionError> {
        if Loop::of(of).is_none() {
            return Err(self.error("map", "map is not supported; use all, exists, exists_one or filter"));
        }
        if FIELDS.iter().any(|(variable, _)| *variable == of.iter_var) {
            let message = format!("{} is a variable already; give the loop's another name", of.iter_var);
            return Err(self.error(&of.iter_var, message));
        }
        self.walk(&of.iter_range, depth)?;
        if self.loops >= MAX_LOOPS {
            return Err(self
                .error(&of.iter_var, format!("at most {MAX_LOOPS} loops within one another are accepted")));
        }
        self.loops = self.loops.saturating_add(1);
        self.variables.extend([of.iter_var.as_str(), of.accu_var.as_str()]);
        self.walk(&of.loop_step, depth)?;
        self.variables.truncate(self.variables.len().saturating_sub(2));
        self.loops = self.loops.saturating_sub(1);
        Ok(())
    }
}
