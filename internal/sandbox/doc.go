// Package sandbox is a simulated HubSpot account behind an [net/http.Handler].
package sandbox
