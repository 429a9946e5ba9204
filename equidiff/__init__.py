"""SO(2)-equivariant diffusion policies for robot learning: one description of every quantity, from data to robot."""
