// Package config decides what hubpg runs with: flags win over the environment, the environment over the YAML file,
// the file over the defaults.
//
// Guarantee: nothing is ignored. An unknown key, a value of the wrong kind and a setting given twice on one level are
// errors that name the file and line, the variable or the flag. What the file leaves empty keeps its default. A secret never appears in what this package prints.
//
//	flags ──▶ ┐
//	env ────▶ ├─▶ Load ──▶ Config ──▶ Validate(role) ──▶ the roles
//	file ───▶ ┘              └─▶ Print (hubpg config)
//
// One table (settings.go) names every setting with its key in the file, its variable and its flag, so the three
// cannot drift apart. A Config is not changed after Load and may then be read concurrently.
package config
