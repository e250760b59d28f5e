// Package authz answers "who was let in, and by what" from the proxies' own
// metrics: the table of `meshproof authz`.
//
// A scraper in the cluster reads /metrics of every meshed pod at a fixed
// interval (Main) and keeps a window of samples (Store); the increases within
// the window become rows (Table), one per route, server and authorization, in
// the columns that Linkerd's users know (rules V-01 to V-10).
//
// The scraper is meshed, has a ServiceAccount of its own and is denied like
// anybody else until it is granted; the answer then says which pods could not
// be read instead of showing zeros.
package authz
