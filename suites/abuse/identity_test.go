package abuse

func identityCases() []Case { return nil }
func detectionCases() []Case { return nil }
func framingCases() []Case { return nil }
func http2Cases() []Case { return nil }
func resourceCases() []Case { return nil }
func planeCases() []Case { return nil }
