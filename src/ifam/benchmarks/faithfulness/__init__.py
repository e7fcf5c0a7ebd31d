"""iFAM's map against maps made afterwards: may what a map leaves out be anything without changing the answer?"""
