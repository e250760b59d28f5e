// Package webhook is what an admission webhook needs to be called: a serving
// certificate, and a webhook configuration that names it.
//
// A role makes its certificate at its first start and keeps it in a Secret, so
// that replicas and restarts share it; it then writes it as CA bundle into the
// webhook configuration that installation left without one, and again whenever
// either of the two is replaced. Calls arrive as AdmissionReviews and leave as
// what the role's own function answers.
//
// It decides nothing about objects. It never answers a call that it could not
// read: the API server then goes by the configuration's failure policy.
package webhook
