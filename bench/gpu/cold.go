package main

func cold(s *session) error { s.result.Skipped = "not there yet"; return nil }
