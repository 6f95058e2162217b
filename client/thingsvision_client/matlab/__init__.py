"""The helper process of the MATLAB client: it calls servers, and shares files with MATLAB."""
