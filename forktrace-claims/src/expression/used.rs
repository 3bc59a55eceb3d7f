//! The figures that the value of an expression comes from.

use cel::{
    Context, Value,
    common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, operators},
};

use super::{
    functions::{UNITS, to_json},
    text::text_with,
};

/// No more are shown: a list can have thousands of rows.
const MOST: usize = 12;
/// Of a list, rows that are shown.
const MOST_ROWS: usize = 4;

/// Each figure as `name = value`, in the order of the expression.
pub(super) fn used(expr: &IdedExpr, context: &Context<'_, '_>) -> Vec<String> {
    let mut found = Vec::new();
    collect(expr, context, &[], &mut found);
    let more = found.len().saturating_sub(MOST);
    found.truncate(MOST);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    found
}

fn collect(
    expr: &IdedExpr,
    context: &Context<'_, '_>,
    variables: &[(&str, String)],
    found: &mut Vec<String>,
) {
    match &expr.expr {
        Expr::Ident(name) if UNITS.iter().any(|(unit, _)| unit == name) => {}
        Expr::Ident(_) | Expr::Select(_) => show(expr, context, variables, found),
        Expr::Call(call) if is_operator(call) => {
            for argument in &call.args {
                collect(argument, context, variables, found);
            }
        }
        Expr::Call(_) => show(expr, context, variables, found),
        Expr::Comprehension(c) => rows(c, context, variables, found),
        Expr::List(list) => {
            for element in &list.elements {
                collect(element, context, variables, found);
            }
        }
        Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {}
    }
}

/// Operators have no name; an index is part of a figure's name.
fn is_operator(call: &CallExpr) -> bool {
    call.func_name != operators::INDEX
        && (call.func_name.contains('_') && !call.func_name.starts_with(char::is_alphabetic)
            || call.func_name == operators::IN)
}

fn show(
    expr: &IdedExpr,
    context: &Context<'_, '_>,
    variables: &[(&str, String)],
    found: &mut Vec<String>,
) {
    let name = text_with(expr, variables);
    let shown = match Value::resolve(expr, context) {
        Ok(value @ (Value::Float(_) | Value::Int(_) | Value::Bool(_) | Value::Null)) => {
            format!("{name} = {}", to_json(&value))
        }
        Ok(Value::String(text)) => format!("{name} = {text:?}"),
        Ok(Value::List(list)) => format!("{name}: {} rows", list.len()),
        Ok(_) => return,
        Err(_) => format!("{name}: not there"),
    };
    if !found.contains(&shown) {
        found.push(shown);
    }
}

/// The rows that decide `all` (the first for which it is false) and `exists`
/// (the first ones); of other macros nothing is shown.
fn rows(
    c: &ComprehensionExpr,
    context: &Context<'_, '_>,
    variables: &[(&str, String)],
    found: &mut Vec<String>,
) {
    let Ok(Value::List(list)) = Value::resolve(&c.iter_range, context) else {
        collect(&c.iter_range, context, variables, found);
        return;
    };
    let Expr::Call(step) = &c.loop_step.expr else {
        return;
    };
    let is_all = match step.func_name.as_str() {
        operators::LOGICAL_AND => true,
        operators::LOGICAL_OR => false,
        _ => return,
    };
    let Some(predicate) = step.args.last() else {
        return;
    };
    let range = text_with(&c.iter_range, variables);
    // A filtered list's rows have other numbers than the list's.
    let range = if range.ends_with('…') {
        c.iter_var.clone()
    } else {
        range
    };
    if list.is_empty() {
        found.push(format!("{range}: 0 rows"));
    }
    let mut shown = 0;
    for (i, row) in list.iter().enumerate() {
        let mut inner = context.new_inner_scope();
        inner.add_variable_from_value(c.iter_var.as_str(), row.clone());
        if is_all && Value::resolve(predicate, &inner) == Ok(Value::Bool(true)) {
            continue;
        }
        let mut variables = variables.to_vec();
        variables.push((&c.iter_var, format!("{range}[{i}]")));
        collect(predicate, &inner, &variables, found);
        shown += 1;
        if shown == MOST_ROWS {
            break;
        }
    }
}
