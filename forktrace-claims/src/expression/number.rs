//! Makes all numbers of an expression doubles.
//!
//! CEL has three kinds of numbers that don't mix: `ns / 2` fails when `ns` is a
//! double. Figures come as doubles (exact up to 2^53, 104 days of nanoseconds);
//! here the literals become doubles too. Only a list's index stays an integer.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};

/// What `size` is called once its result is a double.
pub(super) const SIZE: &str = "@size";
/// What `%` is called; CEL has it for integers only.
pub(super) const REMAINDER: &str = "@remainder";
/// Makes an index of a double.
pub(super) const INDEX: &str = "@index";

/// Functions that are called as `text.contains(part)` only.
pub(super) const METHODS: [&str; 3] = ["contains", "startsWith", "endsWith"];

pub(super) fn one_kind(expr: &mut IdedExpr) {
    match &mut expr.expr {
        Expr::Literal(literal) => {
            let number = match literal {
                LiteralValue::Int(i) => *i.inner() as f64,
                LiteralValue::UInt(i) => *i.inner() as f64,
                _ => return,
            };
            *literal = LiteralValue::Double(number.into());
        }
        Expr::Call(call) => {
            if call.func_name == operators::INDEX && call.args.len() == 2 {
                one_kind(&mut call.args[0]);
                index(&mut call.args[1]);
                return;
            }
            match call.func_name.as_str() {
                "size" => call.func_name = SIZE.to_owned(),
                operators::MODULO => call.func_name = REMAINDER.to_owned(),
                _ => {}
            }
            // `list.sum()` is `sum(list)`; CEL's own methods stay methods.
            if !METHODS.contains(&call.func_name.as_str())
                && let Some(target) = call.target.take()
            {
                call.args.insert(0, *target);
            }
            call.target.iter_mut().for_each(|target| one_kind(target));
            call.args.iter_mut().for_each(one_kind);
        }
        Expr::Comprehension(c) => {
            for part in [
                &mut c.iter_range,
                &mut c.accu_init,
                &mut c.loop_cond,
                &mut c.loop_step,
                &mut c.result,
            ] {
                one_kind(part);
            }
        }
        Expr::List(list) => list.elements.iter_mut().for_each(one_kind),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    one_kind(&mut entry.value);
                }
            }
        }
        Expr::Select(select) => one_kind(&mut select.operand),
        Expr::Struct(_) | Expr::Ident(_) | Expr::Unspecified => {}
    }
}

fn index(expr: &mut IdedExpr) {
    // A literal index stays what it is: an integer, or a property's name.
    if matches!(expr.expr, Expr::Literal(_)) {
        return;
    }
    one_kind(expr);
    let inner = std::mem::take(expr);
    expr.id = inner.id;
    expr.expr = Expr::Call(cel::common::ast::CallExpr {
        func_name: INDEX.to_owned(),
        target: None,
        args: vec![inner],
    });
}
