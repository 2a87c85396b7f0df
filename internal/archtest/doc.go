// Package archtest holds the rules of the tree as tests: which package may import which, where each dependency is at
// home, that every package says what it is for, and what may lie in the root.
//
// Guarantee: a rule that is broken fails a test that names the package, the rule and its reason. The package has no
// code of its own.
package archtest
