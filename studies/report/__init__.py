"""StudyReport: from everyone's answers to the table beside the published one."""
