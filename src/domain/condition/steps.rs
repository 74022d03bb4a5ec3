//! What an evaluation costs, counted. Each turn of a loop pays for what stands in it, before it is evaluated: a step for every node,
//! and for whatever compares or searches as much as it would take over everything that was given.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{ConditionError, check::Loop};
use crate::domain::compiled_pattern::CompiledPattern;
use cel::{
    Context, ExecutionError, IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, operators as op},
};

/// What all conditions about one image may cost together, in steps of some 50 ns at worst.
const STEPS: u64 = 4_000_000;
/// What all conditions of one review may cost together.
const STEPS_OF_REVIEW: u64 = 16_000_000;
/// Bytes that are compared or searched in the time of a step, at worst.
const BYTES_A_STEP: u64 = 128;
/// States of a pattern that a search follows in the time of a step, at worst.
const STATES_A_STEP: usize = 16;
/// What an evaluation costs beside what stands in it: its values are made, and its functions found.
const EVALUATION: u64 = 400;
/// What a turn of a loop costs beside what stands in it: an element is taken out, and names are looked up.
const TURN: i64 = 64;
/// The name under which loops pay. Nobody can write it.
const STEP: &str = "@step";
/// The name of `matches` with a compiled pattern.
const MATCHES: &str = "@matches";
/// What is said when nothing is left.
pub const SPENT: &str = "it takes more steps than the conditions about one image are given";

/// What is left for the conditions of one review: of all its images, under all policies.
#[derive(Debug, Clone)]
pub struct ReviewBudget {
    left: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Default for ReviewBudget {
    fn default() -> Self {
        Self { left: Arc::new(AtomicU64::new(STEPS_OF_REVIEW)), is_over: Arc::default() }
    }
}

impl ReviewBudget {
    /// Whether nothing is left, or the evaluation is over. What was evaluated meanwhile says nothing of the image.
    pub fn is_spent(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.left.load(Ordering::Relaxed) == 0
    }

    /// The same budget for one evaluation, which can be ended alone.
    #[must_use]
    pub fn of_evaluation(&self) -> Self {
        Self { left: Arc::clone(&self.left), is_over: Arc::default() }
    }

    /// The evaluation is over: no condition starts any more, and those that are evaluated end soon.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// For the conditions about one of its images.
    pub fn of_image(&self) -> Budget {
        Budget { image: Arc::new(AtomicU64::new(STEPS)), review: self.clone() }
    }
}

/// What is left for the conditions about one image, whichever policy they are of.
#[derive(Debug, Clone)]
pub struct Budget {
    image: Arc<AtomicU64>,
    review: ReviewBudget,
}

impl Default for Budget {
    fn default() -> Self {
        ReviewBudget::default().of_image()
    }
}

impl Budget {
    /// Whether nothing is left.
    pub fn is_spent(&self) -> bool {
        self.review.is_spent() || self.image.load(Ordering::Relaxed) == 0
    }

    fn spend(&self, steps: u64) -> Result<bool, ExecutionError> {
        for left in [&self.image, &self.review.left] {
            // Never more again than another thread has left.
            let _ = left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(steps)));
        }
        if self.is_spent() { Err(ExecutionError::function_error(STEP, SPENT)) } else { Ok(true) }
    }
}

/// What the counted expression calls. `bytes` is how much was given.
pub fn provide(
    context: &mut Context<'_, '_>,
    budget: &Budget,
    bytes: u64,
    patterns: &Arc<Vec<CompiledPattern>>,
) -> Result<(), String> {
    let scan = bytes.checked_div(BYTES_A_STEP).unwrap_or(0).saturating_add(1);
    budget.spend(scan.saturating_add(EVALUATION)).map_err(|_| SPENT.to_owned())?;
    let (budget, patterns) = (budget.clone(), Arc::clone(patterns));
    let searching = budget.clone();
    let step = move |nodes: i64, scans: i64| {
        let steps = scan.saturating_mul(scans.unsigned_abs()).saturating_add(nodes.unsigned_abs());
        budget.spend(steps)
    };
    let matches = move |text: Arc<String>, at: i64| {
        let pattern = usize::try_from(at).ok().and_then(|at| patterns.get(at));
        let pattern =
            pattern.ok_or_else(|| ExecutionError::function_error("matches", "there is no such pattern"))?;
        // At each byte a search may have to follow every state of the pattern.
        let most = pattern.states().saturating_mul(text.len()) / STATES_A_STEP;
        searching.spend(u64::try_from(most).unwrap_or(u64::MAX))?;
        Ok::<bool, ExecutionError>(pattern.is_match(&text))
    };
    context.add_function(STEP, step).map_err(|error| error.to_string())?;
    context.add_function(MATCHES, matches).map_err(|error| error.to_string())
}

/// Has each loop pay, and each `matches` take its compiled pattern.
pub fn count_in(root: &mut IdedExpr, patterns: &[(u64, CompiledPattern)]) -> Result<Cost, ConditionError> {
    let mut cost = Cost { nodes: 1, scans: 0 };
    match &mut root.expr {
        Expr::Call(call) => {
            if is_scan(call) {
                cost.scans = 1;
            }
            for expr in call.target.as_deref_mut().into_iter().chain(&mut call.args) {
                cost.add(count_in(expr, patterns)?);
            }
            if let Some(at) = patterns.iter().position(|(id, _)| *id == root.id) {
                let text = call.target.take().map(|target| *target).unwrap_or_default();
                let at = literal(root.id, i64::try_from(at).unwrap_or(i64::MAX));
                *call = CallExpr { func_name: MATCHES.to_owned(), target: None, args: vec![text, at] };
            }
        }
        Expr::Select(select) => cost.add(count_in(&mut select.operand, patterns)?),
        Expr::List(list) => {
            for element in &mut list.elements {
                cost.add(count_in(element, patterns)?);
            }
        }
        Expr::Comprehension(of) => {
            cost.add(count_in(&mut of.iter_range, patterns)?);
            let kind = Loop::of(of);
            let Expr::Call(step) = &mut of.loop_step.expr else { return Err(unknown()) };
            let body = match kind {
                Some(Loop::Fold) => step.args.get_mut(1),
                Some(Loop::One | Loop::Filter) => step.args.first_mut(),
                None => None,
            };
            let body = body.ok_or_else(unknown)?;
            let turn = count_in(body, patterns)?;
            pay(body, Cost { nodes: turn.nodes.saturating_add(TURN), scans: turn.scans });
            cost.add(turn);
        }
        Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => return Err(unknown()),
    }
    Ok(cost)
}

fn unknown() -> ConditionError {
    ConditionError::whole("holds something that cannot be counted")
}

/// What evaluating an expression once costs.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    nodes: i64,
    scans: i64,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.scans = self.scans.saturating_add(other.scans);
    }
}

/// Whether its time depends on how long its operands are.
fn is_scan(call: &CallExpr) -> bool {
    let quick = [op::LOGICAL_AND, op::LOGICAL_OR, op::LOGICAL_NOT, op::CONDITIONAL, op::INDEX];
    !quick.contains(&call.func_name.as_str())
}

/// `body` becomes `@step(nodes, scans) ? body : null`; a step that cannot be paid is an error, and never false.
fn pay(body: &mut IdedExpr, cost: Cost) {
    let id = body.id;
    let expression = std::mem::take(body);
    let call = |func_name: &str, args| {
        let expr = Expr::Call(CallExpr { func_name: func_name.to_owned(), target: None, args });
        IdedExpr { id, expr }
    };
    let step = call(STEP, vec![literal(id, cost.nodes), literal(id, cost.scans)]);
    let otherwise = IdedExpr { id, expr: Expr::Literal(LiteralValue::Null) };
    *body = call(op::CONDITIONAL, vec![step, expression, otherwise]);
}

fn literal(id: u64, number: i64) -> IdedExpr {
    IdedExpr { id, expr: Expr::Literal(LiteralValue::Int(number.into())) }
}
