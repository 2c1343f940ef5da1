package stack

func (s *Stack) check(r *report) {}
