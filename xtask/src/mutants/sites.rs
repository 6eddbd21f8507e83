//! Where a file can be switched: the piece of syntax around each change in which an `if` may stand
//! for it.

use super::switch::Change;
use std::collections::BTreeSet;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, Expr, Pat, Signature};

/// How the changes of a site are switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A function's body: the changed one returns at its start.
    Body,
    /// An expression that is written once for each change and once unchanged.
    Expression,
    /// A match arm, from the end of its pattern: a guard deletes it.
    Arm,
}

/// A piece of a file, by its bytes, and the changes in it.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) range: Range<usize>,
    pub(super) form: Form,
    /// Positions in the list of changes.
    pub(super) changes: Vec<usize>,
}

/// What was found in a file; outer sites stand before those in them.
pub(super) struct Sites<'a> {
    changes: &'a [(u32, &'a Change)],
    /// Functions that stay `const`: something constant calls them.
    constant: &'a BTreeSet<String>,
    pub(super) found: Vec<Site>,
    /// The word `const` of the other functions that are.
    pub(super) words: Vec<Range<usize>>,
    /// Whether what is read is evaluated when it is compiled, or a pattern or type.
    fixed: bool,
    /// The site of the operators around the one being read, which bind as the text has it.
    chain: Option<usize>,
}

impl<'a> Sites<'a> {
    /// The error is the parser's.
    pub(super) fn find(
        source: &str,
        changes: &'a [(u32, &'a Change)],
        constant: &'a BTreeSet<String>,
    ) -> Result<Self, String> {
        let file = syn::parse_file(source).map_err(|error| error.to_string())?;
        let mut sites = Self {
            changes,
            constant,
            found: Vec::new(),
            words: Vec::new(),
            fixed: false,
            chain: None,
        };
        sites.visit_file(&file);
        sites.found.retain(|site| !site.changes.is_empty());
        Ok(sites)
    }

    /// The changes of this genre that start where `syntax` does.
    fn changes_at(&self, genre: &str, syntax: &impl Spanned) -> Vec<usize> {
        let start = bytes(syntax).start;
        let ours = |change: &Change| change.genre == genre && change.span.start == start;
        let all = self.changes.iter().enumerate();
        all.filter(|(_, (_, change))| !self.fixed && ours(change))
            .map(|(index, _)| index)
            .collect()
    }

    /// Adds a site and tells its place in the list.
    fn add(&mut self, range: Range<usize>, form: Form, changes: Vec<usize>) -> usize {
        self.found.push(Site {
            range,
            form,
            changes,
        });
        self.found.len() - 1
    }

    fn in_fixed(&mut self, fixed: bool, read: impl FnOnce(&mut Self)) {
        let was = std::mem::replace(&mut self.fixed, fixed);
        read(self);
        self.fixed = was;
    }

    fn function(&mut self, signature: &Signature, body: &Block, read: impl FnOnce(&mut Self)) {
        let stays = self.constant.contains(&signature.ident.to_string());
        let fixed = signature.constness.is_some() && stays;
        if let (Some(word), false) = (&signature.constness, stays) {
            self.words.push(bytes(word));
        }
        self.in_fixed(fixed, |sites| {
            if let (Some(first), Some(last)) = (body.stmts.first(), body.stmts.last()) {
                let mut changes = sites.changes_at("FnValue", first);
                let changed = |index: &usize| &sites.changes[*index].1.replacement;
                changes.retain(|index| signature.constness.is_none() || !calls(changed(index)));
                sites.add(bytes(first).start..bytes(last).end, Form::Body, changes);
            }
            read(sites);
        });
    }
}

fn bytes(syntax: &impl Spanned) -> Range<usize> {
    syntax.span().byte_range()
}

/// Whether a value is more than a literal or a variant of one: in a `const fn` it may not compile.
fn calls(value: &str) -> bool {
    let bare = ["Some(", "Ok(", "Err("].iter();
    let bare = bare.fold(value.to_owned(), |text, variant| text.replace(variant, ""));
    value != "()" && bare.contains(['(', '!'])
}

/// Whether `let` stands between the operators themselves: such a chain is no expression of its own.
fn binds(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => binds(&binary.left) || binds(&binary.right),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Sites<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block, |sites| {
            visit::visit_item_fn(sites, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block, |sites| {
            visit::visit_impl_item_fn(sites, item);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body, |sites| {
                visit::visit_trait_item_fn(sites, item);
            });
        }
    }

    fn visit_expr_binary(&mut self, node: &'ast syn::ExprBinary) {
        let changes = self.changes_at("BinaryOperator", &node.op);
        let around = self.chain.take();
        let chain = (!binds(&node.left) && !binds(&node.right))
            .then(|| around.unwrap_or_else(|| self.add(bytes(node), Form::Expression, Vec::new())));
        if let Some(chain) = chain {
            self.found[chain].changes.extend(changes);
        }
        for side in [&node.left, &node.right] {
            self.chain = chain.filter(|_| matches!(**side, Expr::Binary(_)));
            self.visit_expr(side);
        }
        self.chain = None;
    }

    fn visit_expr_unary(&mut self, node: &'ast syn::ExprUnary) {
        let changes = self.changes_at("UnaryOperator", &node.op);
        self.add(bytes(node), Form::Expression, changes);
        visit::visit_expr_unary(self, node);
    }

    fn visit_expr_struct(&mut self, node: &'ast syn::ExprStruct) {
        let fields = node.fields.iter();
        let changes = fields.flat_map(|field| self.changes_at("StructField", field));
        let changes = changes.collect();
        self.add(bytes(node), Form::Expression, changes);
        visit::visit_expr_struct(self, node);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let changes = self.changes_at("MatchArm", arm);
        self.add(bytes(&arm.pat).end..bytes(arm).end, Form::Arm, changes);
        visit::visit_arm(self, arm);
    }

    fn visit_pat(&mut self, pattern: &'ast Pat) {
        let Pat::Guard(guarded) = pattern else {
            return self.in_fixed(true, |sites| visit::visit_pat(sites, pattern));
        };
        self.visit_pat(&guarded.pat);
        if !binds(&guarded.guard) {
            let changes = self.changes_at("MatchArmGuard", &guarded.guard);
            self.add(bytes(&guarded.guard), Form::Expression, changes);
        }
        self.visit_expr(&guarded.guard);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.in_fixed(true, |sites| visit::visit_item_const(sites, item));
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.in_fixed(true, |sites| visit::visit_item_static(sites, item));
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.in_fixed(true, |sites| visit::visit_impl_item_const(sites, item));
    }

    fn visit_trait_item_const(&mut self, item: &'ast syn::TraitItemConst) {
        self.in_fixed(true, |sites| visit::visit_trait_item_const(sites, item));
    }

    fn visit_expr_const(&mut self, node: &'ast syn::ExprConst) {
        self.in_fixed(true, |sites| visit::visit_expr_const(sites, node));
    }

    fn visit_expr_repeat(&mut self, node: &'ast syn::ExprRepeat) {
        self.visit_expr(&node.expr);
        self.in_fixed(true, |sites| sites.visit_expr(&node.len));
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.in_fixed(true, |sites| visit::visit_variant(sites, variant));
    }

    fn visit_type(&mut self, kind: &'ast syn::Type) {
        self.in_fixed(true, |sites| visit::visit_type(sites, kind));
    }

    fn visit_generic_argument(&mut self, argument: &'ast syn::GenericArgument) {
        self.in_fixed(true, |sites| visit::visit_generic_argument(sites, argument));
    }
}
